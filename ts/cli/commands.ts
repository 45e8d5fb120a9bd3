/** The commands: their names, what they do in one line, and how to load them. */

export interface CommandModule {
  /** Arguments without the command's name; resolves with the exit code. */
  run(argv: string[]): Promise<number>;
}

export interface CommandEntry {
  summary: string;
  load(): Promise<CommandModule>;
}

export const COMMANDS: Record<string, CommandEntry> = {
  daemon: { summary: 'Run the engine', load: () => import('./commands/daemon.ts') },
};
