/** Addresses and numbers in log options, checked with Go's words. */

import { CaissonError } from '../../../errdefs.ts';
import { parseGoDuration } from '../../../goDuration.ts';

export const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** `scheme://host:port/path` in its parts; no part is there that was not given. */
export function splitUrl(text: string): { scheme: string; host: string; path: string } {
  const [, scheme = '', rest = text] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(text) ?? [];
  if (scheme === '') return { scheme, host: '', path: text };
  const at = rest.indexOf('/');
  const authority = at < 0 ? rest : rest.slice(0, at);
  const host = authority.slice(authority.lastIndexOf('@') + 1);
  if (host.startsWith('[') && !host.includes(']')) throw invalid(`parse ${JSON.stringify(text)}: missing ']' in host`);
  return { scheme: scheme.toLowerCase(), host, path: at < 0 ? '' : rest.slice(at) };
}

/** Undefined port: there is none. */
export function splitHostPort(text: string): { host: string; port: string | undefined } {
  const [, bracketed, , port] = /^\[([^\]]*)\](:(.*))?$/.exec(text) ?? [];
  if (bracketed !== undefined) return { host: bracketed, port };
  const parts = text.split(':');
  if (parts.length > 2) throw invalid(`address ${text}: too many colons in address`);
  return { host: parts[0] ?? '', port: parts[1] };
}

export function portNumber(text: string): number {
  const quoted = JSON.stringify(text);
  if (!/^\d+$/.test(text)) throw invalid(`invalid port: strconv.ParseUint: parsing ${quoted}: invalid syntax`);
  if (Number(text) > 65_535) throw invalid(`invalid port: strconv.ParseUint: parsing ${quoted}: value out of range`);
  return Number(text);
}

/** Milliseconds of a Go duration, `1m30s`. */
export function goDuration(text: string): number {
  const ns = parseGoDuration(text);
  if (ns === undefined) {
    const known = /^[+-]?\d+(\.\d*)?$/.test(text) ? 'missing unit in duration' : 'invalid duration';
    throw invalid(`time: ${known} ${JSON.stringify(text)}`);
  }
  return ns / 1e6;
}

/** Go's strconv.Atoi; undefined for what it refuses. */
export const goInteger = (text: string): number | undefined =>
  /^[+-]?\d{1,15}$/.test(text) ? Number(text) : undefined;
