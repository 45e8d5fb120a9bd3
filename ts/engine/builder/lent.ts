/** `RUN --mount=type=secret|ssh`: what the client lends a command as long as it runs. */
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { MountBody } from '../api/schemas/containers.ts';
import type { BuildClient } from './builder.ts';
import { type Fields, invalid, isOn, numberOf } from './mountFlag.ts';
import type { MountPlaces } from './mounts.ts';

export interface Lent {
  mounts: MountBody[];
  env: string[];
  release(): Promise<void>;
}

interface Place {
  dir: string;
  client: BuildClient;
  workingDir: string;
}

/** `all`: the fields of each mount. */
export async function lend(all: readonly Fields[], places: MountPlaces): Promise<Lent> {
  const { client } = places;
  if (client === undefined || all.length === 0) return { mounts: [], env: [], release: () => Promise.resolve() };
  const dir = join(places.secrets, randomBytes(8).toString('hex'));
  const closers: (() => void)[] = [];
  const release = async (): Promise<void> => {
    for (const close of closers) close();
    await rm(dir, { recursive: true, force: true });
  };
  const mounts: MountBody[] = [];
  const env: string[] = [];
  let agents = 0;
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    for (const [at, fields] of all.entries()) {
      const place = { dir: join(dir, String(at)), client, workingDir: places.workingDir };
      if (fields.get('type') === 'secret') {
        const { mount, variable } = await secret(fields, place);
        if (mount !== undefined) mounts.push(mount);
        if (variable !== undefined) env.push(variable);
        continue;
      }
      const found = await agent(fields, place, agents);
      if (found === undefined) continue;
      mounts.push(found.mount);
      closers.push(found.close);
      if (agents++ === 0) env.push(`SSH_AUTH_SOCK=${found.mount.Target}`);
    }
  } catch (error) {
    await release();
    throw error;
  }
  return { mounts, env, release };
}

async function secret(fields: Fields, place: Place): Promise<{ mount?: MountBody; variable?: string }> {
  const flag = shown(fields);
  const target = fields.get('target') ?? '';
  const id = fields.get('source') || fields.get('id') || posix.basename(target);
  if (id === '') throw invalid(flag, 'one of source, target required');
  const value = await place.client.secret(id);
  if (value === undefined) {
    if (isOn(flag, fields, 'required')) throw new CaissonError('NotFound', `secret ${id}: not found`);
    return {};
  }
  const name = fields.get('env');
  const variable = name ? `${name}=${Buffer.from(value).toString('utf8')}` : undefined;
  if (variable !== undefined && target === '') return { variable };
  await writeFile(place.dir, value, { mode: 0o600 });
  await give(flag, fields, place.dir, 0o400);
  const at = target === '' ? `/run/secrets/${posix.basename(id)}` : posix.resolve('/', place.workingDir, target);
  const mount = { Type: 'bind' as const, Source: place.dir, Target: at, ReadOnly: true };
  return { mount, ...(variable !== undefined && { variable }) };
}

async function agent(
  fields: Fields,
  place: Place,
  number: number,
): Promise<{ mount: MountBody; close: () => void } | undefined> {
  const flag = shown(fields);
  const id = fields.get('id') || 'default';
  const close = await place.client.agent(id, place.dir);
  if (close === undefined) {
    if (isOn(flag, fields, 'required')) throw new CaissonError('NotFound', `unset ssh forward key ${id}`);
    return undefined;
  }
  await give(flag, fields, place.dir, 0o600);
  const target = fields.get('target') || `/run/buildkit/ssh_agent.${number}`;
  const at = posix.resolve('/', place.workingDir, target);
  return { mount: { Type: 'bind', Source: place.dir, Target: at }, close };
}

async function give(flag: string, fields: Fields, path: string, mode: number): Promise<void> {
  await chmod(path, numberOf(flag, fields, 'mode', 8, mode));
  await chown(path, numberOf(flag, fields, 'uid', 10, 0), numberOf(flag, fields, 'gid', 10, 0));
}

const shown = (fields: Fields): string => [...fields].map(([name, value]) => `${name}=${value}`).join(',');
