/**
 * JSON that has one meaning. Two readers of `{"a":1,"a":2}` may see two different things: JSON.parse keeps the last one,
 * Go merges objects.
 */

/** One value, no key twice in an object. Throws a SyntaxError (a RangeError where the nesting is too deep). */
export function parseStrictly(text: string): unknown {
  const value: unknown = JSON.parse(text);
  checkKeys(text);
  return value;
}

/** Walks a text that JSON.parse has accepted; so strings end and brackets match. */
function checkKeys(text: string): void {
  // One set of keys for each open object, null for an array.
  const open: (Set<string> | null)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === 0x22) {
      const end = endOfString(text, i);
      const keys = open.at(-1);
      if (expectKey && keys) {
        const key = JSON.parse(text.slice(i, end + 1)) as string;
        if (keys.has(key)) throw new SyntaxError(`the key ${JSON.stringify(key)} appears twice in one object`);
        if (key === '__proto__') throw new SyntaxError('the key "__proto__" is not allowed');
        keys.add(key);
        expectKey = false;
      }
      i = end;
    } else if (char === 0x7b) {
      open.push(new Set());
      expectKey = true;
    } else if (char === 0x5b) {
      open.push(null);
      expectKey = false;
    } else if (char === 0x7d || char === 0x5d) {
      open.pop();
      expectKey = false;
    } else if (char === 0x2c) {
      expectKey = open.at(-1) != null;
    }
  }
}

/** Index of the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; ; i++) {
    const char = text.charCodeAt(i);
    if (char === 0x5c) i++;
    else if (char === 0x22) return i;
  }
}
