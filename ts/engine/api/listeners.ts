/** The sockets that the API is served on: unix sockets of mode 0660, and TCP on loopback. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import type { Server as TlsServer } from 'node:tls';
import { CaissonError } from '../../errdefs.ts';

/** Members of it may use the unix sockets. */
export const DEFAULT_GROUP = 'docker';

/** For listeners on TCP: what stands before a server, and whether it knows its clients. */
export interface Secure {
  before(server: Server): TlsServer;
  verify: boolean;
}

type Address = { path: string } | { host: string; port: number };

/** Refuses what `listen` would refuse, before anything of the host is touched. */
export async function checkHost(host: string, secure?: Pick<Secure, 'verify'>): Promise<void> {
  const address = parseHost(host, secure);
  if ('path' in address) await assertFree(address.path);
}

/** What the kernel allows (somaxconn), as Go's servers have it: on a unix socket a client beyond it fails with EAGAIN. */
const BACKLOG = 4096;

/** Resolves with the address when the server accepts connections there. */
export async function listen(server: Server, host: string, group: string, secure?: Secure): Promise<string> {
  const address = parseHost(host, secure);
  if ('path' in address) return listenUnix(server, address.path, group);
  const listener = secure ? secure.before(server) : server;
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject).listen({ ...address, backlog: BACKLOG }, resolve);
  });
  return `tcp://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}

function parseHost(host: string, secure?: Pick<Secure, 'verify'>): Address {
  const path = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (path !== undefined) return { path };
  const tcp = /^tcp:\/\/(.*?)(?::(\d{1,5}))?\/?$/.exec(host);
  if (tcp !== null) {
    const port = tcp[2] === undefined ? (secure ? DEFAULT_TLS_PORT : DEFAULT_PORT) : Number(tcp[2]);
    return tcpAddress(tcp[1] || '127.0.0.1', port, secure);
  }
  throw new CaissonError(
    'InvalidParameter',
    `invalid host ${JSON.stringify(host)}: unix:///path or tcp://address:port`,
  );
}

/** True when nobody answers on the path: nothing is there, or a socket that a dead process left. */
export async function isFree(path: string): Promise<boolean> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return true;
  return stat.isSocket() && !(await answers(path));
}

async function assertFree(path: string): Promise<void> {
  if (await isFree(path)) return;
  throw new CaissonError('Conflict', `cannot listen on ${path}: another process serves it, or it is not a socket`, {
    code: 'SOCKET_IN_USE',
  });
}

async function listenUnix(server: Server, path: string, group: string): Promise<string> {
  await assertFree(path);
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) unlinkSync(path);
  // listen() binds before it returns; the socket is never open to others, not even for a moment.
  const umask = process.umask(0o177);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen({ path, backlog: BACKLOG }, resolve);
  });
  process.umask(umask);
  await listening;
  const gid = groupId(group);
  if (gid !== undefined) chownSync(path, 0, gid);
  chmodSync(path, 0o660);
  return `unix://${path}`;
}

/** As Docker's, without TLS and with it. */
const DEFAULT_PORT = 2375;
const DEFAULT_TLS_PORT = 2376;

/**
 * Who reaches a TCP port of this API is root on the host, so an address that other machines can reach needs client
 * certificates. dockerd 28 warns of it, waits and goes on.
 */
function tcpAddress(address: string, port: number, secure?: Pick<Secure, 'verify'>): Address {
  const bare = address.replace(/^\[(.*)\]$/, '$1');
  if (!secure?.verify && bare !== 'localhost' && bare !== '::1' && !/^127(\.\d{1,3}){3}$/.test(bare))
    throw new CaissonError(
      'InvalidParameter',
      `tcp://${address}:${port}: only loopback addresses can be listened on without --tlsverify: whoever reaches this port is root here`,
      {
        code: 'TLS_REQUIRED',
        hint: 'give --tlsverify with --tlscacert, --tlscert and --tlskey, or reach the unix socket through ssh: DOCKER_HOST=ssh://user@host',
      },
    );
  return { host: bare, port };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

/** Undefined for the default group where the host has none of that name: the socket is root's alone then. */
function groupId(group: string): number | undefined {
  if (/^\d+$/.test(group)) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${group}:`));
  if (line !== undefined) return Number(line.split(':')[2]);
  if (group === DEFAULT_GROUP) return undefined;
  throw new CaissonError('InvalidParameter', `group ${group} not found in /etc/group`);
}
