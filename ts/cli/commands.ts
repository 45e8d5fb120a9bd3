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
  run: { summary: 'Create and run a new container from an image', load: () => import('./commands/run.ts') },
  create: { summary: 'Create a new container', load: () => import('./commands/create.ts') },
  start: { summary: 'Start stopped containers', load: () => import('./commands/start.ts') },
  ps: { summary: 'List containers', load: () => import('./commands/ps.ts') },
  logs: { summary: 'Show the output of a container', load: () => import('./commands/logs.ts') },
  exec: { summary: 'Run a command in a running container', load: () => import('./commands/exec.ts') },
  attach: { summary: 'Join the streams of a running container', load: () => import('./commands/attach.ts') },
  stop: { summary: 'Stop containers', load: () => import('./commands/stop.ts') },
  kill: { summary: 'Send a signal to containers', load: () => import('./commands/kill.ts') },
  restart: { summary: 'Restart containers', load: () => import('./commands/restart.ts') },
  rm: { summary: 'Remove containers', load: () => import('./commands/rm.ts') },
  wait: {
    summary: 'Wait until containers stop, then print their exit codes',
    load: () => import('./commands/wait.ts'),
  },
  inspect: { summary: 'Show all about containers and images', load: () => import('./commands/inspect.ts') },
  pause: { summary: 'Freeze all processes of containers', load: () => import('./commands/pause.ts') },
  unpause: { summary: 'Let frozen containers go on', load: () => import('./commands/unpause.ts') },
  rename: { summary: 'Rename a container', load: () => import('./commands/rename.ts') },
  top: { summary: 'Show the processes of a container', load: () => import('./commands/top.ts') },
  diff: {
    summary: 'Show what a container has changed of the files of its image',
    load: () => import('./commands/diff.ts'),
  },
  stats: { summary: 'Show what containers use', load: () => import('./commands/stats.ts') },
  update: {
    summary: 'Change the limits and the restart policy of containers',
    load: () => import('./commands/update.ts'),
  },
  container: {
    summary: 'Commands of containers; prune removes those that do not run',
    load: () => import('./commands/container.ts'),
  },
  images: { summary: 'List images', load: () => import('./commands/images.ts') },
  commit: { summary: 'Make an image of what a container changed', load: () => import('./commands/commit.ts') },
  export: { summary: 'Write the file system of a container to an archive', load: () => import('./commands/export.ts') },
  pull: { summary: 'Fetch an image from its registry', load: () => import('./commands/pull.ts') },
  push: { summary: 'Send an image to its registry', load: () => import('./commands/push.ts') },
  search: { summary: 'Search Docker Hub for images', load: () => import('./commands/search.ts') },
  login: { summary: 'Log in to a registry', load: () => import('./commands/login.ts') },
  logout: { summary: 'Forget the login of a registry', load: () => import('./commands/logout.ts') },
  rmi: { summary: 'Remove images', load: () => import('./commands/rmi.ts') },
  tag: { summary: 'Give an image a further name', load: () => import('./commands/tag.ts') },
  load: { summary: 'Load images from a tar archive', load: () => import('./commands/load.ts') },
  save: { summary: 'Write images to a tar archive', load: () => import('./commands/save.ts') },
  import: { summary: 'Make an image from a tar archive of a file system', load: () => import('./commands/import.ts') },
  history: { summary: 'Show how an image was made', load: () => import('./commands/history.ts') },
  events: { summary: 'Show what happens in the engine', load: () => import('./commands/events.ts') },
  info: { summary: 'Show what the engine is and has', load: () => import('./commands/info.ts') },
  version: { summary: 'Show the versions of client and engine', load: () => import('./commands/version.ts') },
  network: { summary: 'Manage networks', load: () => import('./commands/network.ts') },
  registry: { summary: 'Serve a container registry', load: () => import('./commands/registry.ts') },
  daemon: { summary: 'Run the engine', load: () => import('./commands/daemon.ts') },
};
