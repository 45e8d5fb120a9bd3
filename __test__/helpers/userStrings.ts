/** Who `--user` names: strings that other engines have read wrongly, and how to ask an engine about them. */
import type { CommandResult } from './daemon.ts';

/** A user whose name is a number, and one that shares its number with a name. */
export const FILES = {
  'etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\nbin:x:1:1::/bin:/bin/false\nuser:x:1000:100::/home:/bin/sh\n' +
    '1000:x:0:0::/:/bin/sh\n4711:x:0:0::/:/bin/sh\nlast:x:2147483647:5::/:/bin/sh\n',
  'etc/group': 'root:x:0:\nbin:x:1:user\nusers:x:100:\nextra:x:2000:user,root\n7:x:0:user\n',
};

export const STRINGS = [
  '0',
  '1',
  '1:',
  ':1',
  '1:2',
  '01',
  ' 1',
  '+1',
  '-1',
  '0x1',
  '1.0',
  'user',
  'user:extra',
  ':extra',
  'user:7',
  '1000',
  '4711',
  '2147483647',
  '2147483648',
  '4294967295',
  '4294967296',
  '1:4294967296',
  'nobody',
  'user:nogroup',
];

export interface Answer {
  create: string;
  exec: string;
}

export const SCRIPT = 'echo $(id -u) $(id -g) $(id -G) $HOME';

/** "uid gid groups home" or the engine's words, for each string as the user of a container and of an exec. */
export async function ask(
  docker: (args: string[]) => Promise<CommandResult>,
  image: string,
): Promise<Record<string, Answer>> {
  const running = (await docker(['run', '-d', image, 'sleep', '1000'])).stdout.trim();
  const answers: Record<string, Answer> = {};
  for (const user of STRINGS) {
    answers[user] = {
      create: words(await docker(['run', '--rm', '--network=none', `--user=${user}`, image, 'sh', '-c', SCRIPT])),
      exec: words(await docker(['exec', `--user=${user}`, running, 'sh', '-c', SCRIPT])),
    };
  }
  await docker(['rm', '-f', running]);
  return answers;
}

/** An engine may say it when the exec is made or when it starts, and name the user before: the words are the same. */
function words({ code, stdout, stderr }: CommandResult): string {
  if (code === 0) return stdout.trim();
  const said = /(unable to find (user|group) .*|uids and gids .*)/.exec(stderr + stdout);
  return `refused: ${said?.[0].trim() ?? stderr}`;
}
