/** `caisson version`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CaissonError, type VersionInfo } from '../../client/index.ts';
import { API_VERSION } from '../../client/transport.ts';
import { packageRoot } from '../../packageRoot.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { reportFailure } from '../failure.ts';
import { template } from '../format.ts';

const SHAPE: CommandShape = {
  name: 'version',
  usage: '[OPTIONS]',
  takes: [0],
  summary: 'Show the versions of client and engine',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
  ],
  examples: ['caisson version', "caisson version -f '{{.Server.Version}}'"],
};

export default command<{ format?: string; json?: boolean }>(SHAPE, async ({ flags }) => {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  const Client = {
    Version: version,
    ApiVersion: API_VERSION,
    Node: process.version,
    Os: process.platform,
    Arch: process.arch,
  };
  let Server: VersionInfo | undefined;
  let failed: unknown;
  try {
    Server = await engine().version();
  } catch (error) {
    if (!(error instanceof CaissonError)) throw error;
    failed = error;
  }
  const { format = flags.json ? 'json' : undefined } = flags;
  if (format !== undefined) process.stdout.write(`${template(format)({ Client, Server })}\n`);
  else {
    process.stdout.write(`Client: caisson\n${list(Client)}`);
    if (Server !== undefined) {
      const { Components, ...rest } = Server;
      process.stdout.write(`\nServer:\n${list(rest)}`);
      for (const { Name, Version } of Components ?? []) process.stdout.write(` ${Name}: ${Version}\n`);
    }
  }
  return failed === undefined ? 0 : reportFailure(failed);
});

const list = (object: object): string =>
  Object.entries(object)
    .filter(([, value]) => typeof value !== 'object' && value !== '')
    .map(([key, value]) => ` ${`${key}:`.padEnd(16)} ${value}\n`)
    .join('');
