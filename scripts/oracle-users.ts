#!/usr/bin/env node
// oracle-users SOCKET: asks Docker's own engine at SOCKET who each of the user strings is and writes the table that
// __test__/api/users.spec.ts holds ours against.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { CommandResult } from '../__test__/helpers/daemon.ts';
import { busyboxTar } from '../__test__/helpers/image.ts';
import { ask, FILES } from '../__test__/helpers/userStrings.ts';

const docker = async (args: string[]): Promise<CommandResult> => {
  const { status, stdout, stderr } = spawnSync('docker', ['-H', `unix://${process.argv[2]}`, ...args], {
    encoding: 'utf8',
  });
  return { code: status ?? 1, stdout, stderr };
};
const root = '/tmp/oracle-users.tar';
writeFileSync(root, await busyboxTar(FILES));
const imported = await docker(['import', root, 'users']);
if (imported.code !== 0) throw new Error(imported.stderr);
const table = await ask(docker, 'users');
writeFileSync(new URL('../__test__/api/users.json', import.meta.url), `${JSON.stringify(table, null, 2)}\n`);
