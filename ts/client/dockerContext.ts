/**
 * Where docker's client keeps the engines that it knows by name:
 *
 *   $DOCKER_CONFIG or ~/.docker
 *     config.json                                    currentContext: what `docker context use` has chosen
 *     contexts/meta/<sha256 of the name>/meta.json   Name, Endpoints.docker.Host
 *     contexts/tls/<sha256 of the name>/docker/      certificates
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { CaissonError } from '../errdefs.ts';

interface Config {
  currentContext?: unknown;
}

interface Meta {
  Endpoints?: { docker?: { Host?: string } };
}

type Env = Record<string, string | undefined>;

const configDir = (env: Env): string => env['DOCKER_CONFIG'] || join(homedir(), '.docker');

/** Undefined without a choice, and where docker's file cannot be read: it is there for other things as well. */
export function chosenContext(env: Env): string | undefined {
  try {
    const { currentContext } = JSON.parse(readFileSync(join(configDir(env), 'config.json'), 'utf8')) as Config;
    return typeof currentContext === 'string' && currentContext !== '' ? currentContext : undefined;
  } catch {
    return undefined;
  }
}

/** The address of a context; undefined for `default`, which is none. Kind NotFound when there is none of that name. */
export function contextAddress(name: string, env: Env): string | undefined {
  if (name === 'default') return undefined;
  const contexts = join(configDir(env), 'contexts');
  const id = createHash('sha256').update(name).digest('hex');
  const path = join(contexts, 'meta', id, 'meta.json');
  let meta: Meta;
  try {
    meta = JSON.parse(readFileSync(path, 'utf8')) as Meta;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw unusable(name, `${path}: ${(cause as Error).message}`);
    throw new CaissonError('NotFound', `context "${name}": context not found: ${path}`, {
      code: 'CONTEXT_NOT_FOUND',
      hint: 'docker context ls shows those that there are',
      cause,
    });
  }
  const host = meta.Endpoints?.docker?.Host ?? '';
  if (existsSync(join(contexts, 'tls', id, 'docker'))) throw unusable(name, 'certificates of a context are not read');
  if (!/^(unix|tcp|http):/.test(host)) throw unusable(name, `${JSON.stringify(host)} is neither unix:// nor tcp://`);
  return host;
}

const unusable = (name: string, why: string): CaissonError =>
  new CaissonError('InvalidParameter', `context "${name}" cannot be used: ${why}`, {
    hint: 'name the engine by DOCKER_HOST instead',
  });
