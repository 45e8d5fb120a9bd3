import { describe, expect, it } from 'vitest';
import { foreignRuntime, parseRuntimes } from '../../ts/engine/runtime/runtimes.ts';

describe('runtimes of others', () => {
  it('come from flags and from the config file', () => {
    expect(parseRuntimes(['crun=/usr/bin/crun', ' Kata = /k=1 '])).toEqual({
      crun: { path: '/usr/bin/crun', args: [] },
      kata: { path: '/k=1', args: [] },
    });
    expect(
      parseRuntimes({
        // as nvidia-ctk writes it, with a key that dockerd does not know
        nvidia: { path: 'nvidia-container-runtime', args: [] },
        debug: { path: '/usr/bin/runsc', runtimeArgs: ['--debug'] },
        shim: { runtimeType: 'io.containerd.runc.v2', options: { BinaryName: '/usr/bin/crun' } },
        stock: { runtimeType: 'io.containerd.runc.v2' },
      }),
    ).toEqual({
      nvidia: { path: 'nvidia-container-runtime', args: [] },
      debug: { path: '/usr/bin/runsc', args: ['--debug'] },
      shim: { path: '/usr/bin/crun', args: [] },
      stock: { path: 'runc', args: [] },
    });
  });

  it.each([
    [{ runc: { path: '/x' } }, "runtime name 'runc' is reserved"],
    [{ caisson: { path: '/x' } }, "runtime name 'caisson' is reserved"],
    [{ 'io.containerd.runc.v2': { path: '/x' } }, "runtime name 'io.containerd.runc.v2' is reserved"],
    [{ x: {} }, 'runtime x: either a runtimeType or a path must be configured'],
    [{ x: { path: '/x', runtimeType: 'y' } }, 'runtime x: cannot configure both path and runtimeType'],
    [{ x: { path: '/x', options: { A: 1 } } }, 'runtime x: options cannot be used with a path runtime'],
    [{ x: { runtimeType: 'y', runtimeArgs: ['a'] } }, 'runtime x: args cannot be used with a runtimeType runtime'],
    [
      { x: { runtimeType: 'io.containerd.kata.v2' } },
      'runtime x: the runtimeType io.containerd.kata.v2 is not supported',
    ],
    [{ x: { runtimeType: 'io.containerd.runc.v2', options: { Root: '/r' } } }, 'runtime x: the option Root is not'],
    [{ x: { path: '/x', runtimeArgs: [1] } }, 'runtime x: runtimeArgs must be a list of texts'],
    [{ x: { path: 7 } }, 'runtime x: path must be a text'],
    [{ x: null }, 'runtime x: it must be an object'],
  ])('%j is refused', (given, why) => {
    expect(() => parseRuntimes(given)).toThrow(why);
  });

  it('are told from our own, which has the names of Docker’s', () => {
    const runtimes = parseRuntimes(['crun=/usr/bin/crun']);
    expect(foreignRuntime('crun', runtimes)).toBe(runtimes['crun']);
    for (const name of ['caisson', 'runc', 'io.containerd.runc.v2'])
      expect(foreignRuntime(name, runtimes)).toBeUndefined();
    // and not what every object has
    for (const name of ['', 'other', 'toString']) {
      expect(() => foreignRuntime(name, runtimes)).toThrow(`unknown or invalid runtime name: ${name}`);
    }
  });
});
