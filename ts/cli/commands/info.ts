/** `caisson info`. */

import { humanSize } from '../../humanSize.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { template } from '../format.ts';

const SHAPE: CommandShape = {
  name: 'info',
  usage: '[OPTIONS]',
  takes: [0],
  summary: 'Show what the engine is and has',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
  ],
  examples: ['caisson info', "caisson info -f '{{.Driver}}'"],
};

const SHOWN: [title: string, key: string][] = [
  ['Containers', 'Containers'],
  [' Running', 'ContainersRunning'],
  [' Paused', 'ContainersPaused'],
  [' Stopped', 'ContainersStopped'],
  ['Images', 'Images'],
  ['Server Version', 'ServerVersion'],
  ['Storage Driver', 'Driver'],
  ['Logging Driver', 'LoggingDriver'],
  ['Cgroup Driver', 'CgroupDriver'],
  ['Cgroup Version', 'CgroupVersion'],
  ['Default Runtime', 'DefaultRuntime'],
  ['Security Options', 'SecurityOptions'],
  ['Kernel Version', 'KernelVersion'],
  ['Operating System', 'OperatingSystem'],
  ['Architecture', 'Architecture'],
  ['CPUs', 'NCPU'],
  ['Total Memory', 'MemTotal'],
  ['Name', 'Name'],
  ['Docker Root Dir', 'DockerRootDir'],
];

export default command<{ format?: string; json?: boolean }>(SHAPE, async ({ flags }) => {
  const info = await engine().info();
  const { format = flags.json ? 'json' : undefined } = flags;
  if (format !== undefined) {
    process.stdout.write(`${template(format)(info)}\n`);
    return 0;
  }
  for (const [title, key] of SHOWN) {
    const value = info[key];
    const text = key === 'MemTotal' ? humanSize(Number(value)) : Array.isArray(value) ? value.join(', ') : value;
    if (text !== undefined && text !== '') process.stdout.write(`${title}: ${text}\n`);
  }
  const warnings = info['Warnings'];
  if (Array.isArray(warnings)) for (const warning of warnings) process.stderr.write(`${warning}\n`);
  return 0;
});
