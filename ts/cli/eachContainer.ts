/** Commands that take containers and do one thing to each; the CLI says the name of each that went well. */
import type { Caisson } from '../client/index.ts';
import { type Command, type CommandShape, command } from './command.ts';
import { engine } from './connect.ts';
import { each } from './each.ts';
import { parseInteger } from './units.ts';

type Containers = Caisson['containers'];

export const eachContainer = <F extends object>(
  shape: Omit<CommandShape, 'takes'>,
  act: (containers: Containers, name: string, flags: F) => Promise<unknown>,
): Command =>
  command<F>({ ...shape, takes: [1] }, ({ flags, args }) => {
    const { containers } = engine();
    return each(args, async (name) => {
      await act(containers, name, flags);
      return name;
    });
  });

interface EndFlags {
  timeout?: string;
  time?: string;
  signal?: string;
}

/** `stop` and `restart`, which end it first. */
export const endEach = (name: 'stop' | 'restart', summary: string): Command =>
  eachContainer<EndFlags>(
    {
      name,
      usage: '[OPTIONS] CONTAINER [CONTAINER...]',
      summary,
      flags: [
        ['-t, --timeout <seconds>', 'Seconds until it is killed; -1: never'],
        ['--time <seconds>', 'As --timeout'],
        ['-s, --signal <signal>', 'Signal that asks it to end'],
      ],
      examples: [`caisson ${name} -t 5 web`],
    },
    (containers, container, { timeout, time, signal }) => {
      const given = timeout ?? time;
      const timeoutS = given === undefined ? undefined : parseInteger(given, '--timeout');
      return containers[name](container, { timeoutS, stopSignal: signal });
    },
  );
