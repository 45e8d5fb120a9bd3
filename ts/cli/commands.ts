/** The commands: their names, what they do in one line, and how to load them. */
import type { Command } from './command.ts';

export interface CommandEntry {
  summary: string;
  load(): Promise<{ default: Command }>;
}

export interface CommandGroup {
  summary: string;
  commands: Record<string, CommandEntry>;
}

const entry = (summary: string, load: CommandEntry['load']): CommandEntry => ({ summary, load });

/** Those of containers, which also stand for themselves. */
const CONTAINER = {
  run: entry('Create and run a new container from an image', () => import('./commands/run.ts')),
  create: entry('Create a new container', () => import('./commands/create.ts')),
  start: entry('Start stopped containers', () => import('./commands/start.ts')),
  logs: entry('Show the output of a container', () => import('./commands/logs.ts')),
  exec: entry('Run a command in a running container', () => import('./commands/exec.ts')),
  attach: entry('Join the streams of a running container', () => import('./commands/attach.ts')),
  cp: entry('Copy files between a container and here', () => import('./commands/cp.ts')),
  stop: entry('Stop containers', () => import('./commands/stop.ts')),
  kill: entry('Send a signal to containers', () => import('./commands/kill.ts')),
  restart: entry('Restart containers', () => import('./commands/restart.ts')),
  rm: entry('Remove containers', () => import('./commands/rm.ts')),
  wait: entry('Wait until containers stop, then print their exit codes', () => import('./commands/wait.ts')),
  pause: entry('Freeze all processes of containers', () => import('./commands/pause.ts')),
  unpause: entry('Let frozen containers go on', () => import('./commands/unpause.ts')),
  rename: entry('Rename a container', () => import('./commands/rename.ts')),
  port: entry('Show where the ports of a container are published', () => import('./commands/port.ts')),
  top: entry('Show the processes of a container', () => import('./commands/top.ts')),
  stats: entry('Show what containers use', () => import('./commands/stats.ts')),
  diff: entry('Show what a container has changed of the files of its image', () => import('./commands/diff.ts')),
  update: entry('Change the limits and the restart policy of containers', () => import('./commands/update.ts')),
  commit: entry('Make an image of what a container changed', () => import('./commands/commit.ts')),
  export: entry('Write the file system of a container to an archive', () => import('./commands/export.ts')),
};

const IMAGE = {
  build: entry('Make an image by a Dockerfile', () => import('./commands/build.ts')),
  pull: entry('Fetch an image from its registry', () => import('./commands/pull.ts')),
  push: entry('Send an image to its registry', () => import('./commands/push.ts')),
  tag: entry('Give an image a further name', () => import('./commands/tag.ts')),
  history: entry('Show how an image was made', () => import('./commands/history.ts')),
  load: entry('Load images from a tar archive', () => import('./commands/load.ts')),
  save: entry('Write images to a tar archive', () => import('./commands/save.ts')),
  import: entry('Make an image from a tar archive of a file system', () => import('./commands/import.ts')),
};

const SYSTEM = {
  events: entry('Show what happens in the engine', () => import('./commands/events.ts')),
  info: entry('Show what the engine is and has', () => import('./commands/info.ts')),
};

const ps = entry('List containers', () => import('./commands/ps.ts'));
const images = entry('List images', () => import('./commands/images.ts'));
const rmi = entry('Remove images', () => import('./commands/rmi.ts'));

export const COMMANDS: Record<string, CommandEntry> = {
  ...CONTAINER,
  ps,
  images,
  rmi,
  ...IMAGE,
  inspect: entry('Show all about containers, images, networks and volumes', () => import('./commands/inspect.ts')),
  ...SYSTEM,
  version: entry('Show the versions of client and engine', () => import('./commands/version.ts')),
  search: entry('Search Docker Hub for images', () => import('./commands/search.ts')),
  login: entry('Log in to a registry', () => import('./commands/login.ts')),
  logout: entry('Forget the login of a registry', () => import('./commands/logout.ts')),
  registry: entry('Serve a container registry', () => import('./commands/registry.ts')),
  daemon: entry('Run the engine', () => import('./commands/daemon.ts')),
  doctor: entry('Say what this machine has and lacks for containers', () => import('./commands/doctor.ts')),
  completion: entry('Print what completes commands in bash, zsh or fish', () => import('./commands/completion.ts')),
};

export const GROUPS: Record<string, CommandGroup> = {
  container: {
    summary: 'Manage containers',
    commands: {
      ...CONTAINER,
      ls: ps,
      inspect: entry('Show all about containers', () => import('./commands/container/inspect.ts')),
      prune: entry('Remove all containers that do not run', () => import('./commands/container/prune.ts')),
    },
  },
  image: {
    summary: 'Manage images',
    commands: {
      ...IMAGE,
      ls: images,
      rm: rmi,
      inspect: entry('Show all about images', () => import('./commands/image/inspect.ts')),
      prune: entry('Remove images that nothing uses', () => import('./commands/image/prune.ts')),
    },
  },
  network: {
    summary: 'Manage networks',
    commands: {
      connect: entry('Let a container join a network', () => import('./commands/network/connect.ts')),
      create: entry('Create a network', () => import('./commands/network/create.ts')),
      disconnect: entry('Let a container leave a network', () => import('./commands/network/disconnect.ts')),
      inspect: entry('Show all about networks', () => import('./commands/network/inspect.ts')),
      ls: entry('List networks', () => import('./commands/network/ls.ts')),
      prune: entry('Remove networks that no container uses', () => import('./commands/network/prune.ts')),
      rm: entry('Remove networks', () => import('./commands/network/rm.ts')),
    },
  },
  volume: {
    summary: 'Manage volumes',
    commands: {
      create: entry('Create a volume', () => import('./commands/volume/create.ts')),
      inspect: entry('Show all about volumes', () => import('./commands/volume/inspect.ts')),
      ls: entry('List volumes', () => import('./commands/volume/ls.ts')),
      prune: entry('Remove volumes that no container has', () => import('./commands/volume/prune.ts')),
      rm: entry('Remove volumes', () => import('./commands/volume/rm.ts')),
    },
  },
  system: {
    summary: 'Manage the engine',
    commands: {
      ...SYSTEM,
      check: entry('Compare what the store holds with what it should', () => import('./commands/system/check.ts')),
      df: entry('Show what takes room on the disk', () => import('./commands/system/df.ts')),
      prune: entry('Remove all that nothing uses', () => import('./commands/system/prune.ts')),
    },
  },
};

const ALIASES: Record<string, string> = { list: 'ls', remove: 'rm', ps: 'ls' };

export type Found =
  | { kind: 'command'; entry: CommandEntry; rest: string[] }
  | { kind: 'group'; name: string; group: CommandGroup; rest: string[] }
  | { kind: 'nothing' };

/** What the words at the beginning of a command line name. A group is found where no command of its own is. */
export function findCommand([name = '', verb = '', ...rest]: readonly string[]): Found {
  const group = Object.hasOwn(GROUPS, name) ? GROUPS[name] : undefined;
  if (group === undefined) {
    const found = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    return found
      ? { kind: 'command', entry: found, rest: verb === '' && rest.length === 0 ? [] : [verb, ...rest] }
      : { kind: 'nothing' };
  }
  const { commands } = group;
  const known = Object.hasOwn(commands, verb) ? commands[verb] : commands[ALIASES[verb] ?? ''];
  return known
    ? { kind: 'command', entry: known, rest }
    : { kind: 'group', name, group, rest: verb === '' ? rest : [verb, ...rest] };
}
