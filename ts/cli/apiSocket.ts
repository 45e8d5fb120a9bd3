/** `--use-api-socket`: a container that may use the engine, with the logins that are kept here. */
import { Header } from 'tar';
import { defaultAddress, parseAddress } from '../client/address.ts';
import type { Caisson, CreateBody } from '../client/index.ts';
import { allCredentials } from './credentials.ts';
import { ExitCode } from './failure.ts';

const SOCKET = '/var/run/docker.sock';
const CONFIG_DIR = 'run/secrets/docker';
const BLOCK = 512;

/** What the container gets at its creation. */
export function withApiSocket(body: CreateBody): CreateBody {
  const address = parseAddress(defaultAddress());
  if (!('socketPath' in address))
    throw new ExitCode(125, `caisson: --use-api-socket needs an engine behind a unix socket, not ${defaultAddress()}`);
  const mount = { Type: 'bind' as const, Source: address.socketPath, Target: SOCKET };
  return {
    ...body,
    ...(hasLogins() && { Env: [...(body.Env ?? []), `DOCKER_CONFIG=/${CONFIG_DIR}`] }),
    HostConfig: { ...body.HostConfig, Mounts: [...(body.HostConfig?.Mounts ?? []), mount] },
  };
}

const hasLogins = (): boolean => Object.keys(allCredentials()).length > 0;

/** What it gets before its start. */
export async function copyLogins({ containers }: Caisson, id: string): Promise<void> {
  if (!hasLogins()) return;
  const content = Buffer.from(JSON.stringify({ auths: allCredentials() }));
  const header = new Header({
    path: `${CONFIG_DIR}/config.json`,
    type: 'File',
    mode: 0o600,
    uid: 0,
    gid: 0,
    size: content.byteLength,
    mtime: new Date(),
  });
  header.encode();
  const padding = Buffer.alloc(((BLOCK - (content.byteLength % BLOCK)) % BLOCK) + 2 * BLOCK);
  const archive = Buffer.concat([header.block ?? Buffer.alloc(BLOCK), content, padding]);
  await containers.writeArchive(
    id,
    '/',
    (async function* () {
      yield archive;
    })(),
  );
}
