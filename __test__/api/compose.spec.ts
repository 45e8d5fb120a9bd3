/** Compose projects on real files: what a team's file asks for is there, seen from inside and by compose itself. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandResult, run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { COMPOSE, missing } from '../helpers/requires.ts';

const FILE = `
name: shop
x-common: &common
  image: busybox
  stop_signal: SIGKILL
services:
  base: { profiles: [never], image: busybox, environment: { FROM_BASE: 'yes' } }
  seed:
    <<: *common
    command: sh -c 'echo seeded > /data/seed'
    volumes: ['data:/data']
  db:
    <<: *common
    command: sh -c 'httpd -p 80 -h /data; touch /tmp/up; exec sleep 100000'
    healthcheck: { test: ['CMD', 'test', '-e', '/tmp/up'], interval: 1s, start_interval: 100ms, start_period: 10s }
    depends_on: { seed: { condition: service_completed_successfully } }
    volumes: ['data:/data:ro']
    networks:
      back:
        ipv4_address: 10.195.1.50
        ipv6_address: fd95:1::50
        aliases: [store]
  web:
    extends: { service: base }
    profiles: !reset []
    stop_signal: SIGKILL
    command: sh -c 'trap exit TERM; echo ready; while :; do sleep 1; done'
    depends_on: { db: { condition: service_healthy } }
    networks: { front: {}, back: {} }
    secrets: [token]
    configs: [{ source: settings, target: /etc/settings.conf }]
    environment: { COLOUR: '\${COLOUR:-green}' }
    labels: { team: shop }
    deploy: { resources: { limits: { memory: 64M, pids: 50 } } }
    tmpfs: /scratch
  debug: { <<: *common, profiles: [debug], command: sleep 100000, network_mode: none }
networks:
  front: {}
  back:
    internal: true
    enable_ipv6: true
    ipam: { config: [{ subnet: 10.195.1.0/24 }, { subnet: 'fd95:1::/64' }] }
volumes: { data: { labels: { kept: 'no' } } }
secrets: { token: { file: ./token.txt } }
configs: { settings: { content: 'size = 3' } }
`;

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'compose'))('compose', () => {
  let daemon: TestDaemon;
  let dir = '';

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    await daemon.loadBusybox();
    dir = join(daemon.dir, 'shop');
    mkdirSync(dir);
    writeFileSync(join(dir, 'compose.yaml'), FILE);
    writeFileSync(join(dir, 'token.txt'), 'hush');
  }, 60_000);

  afterAll(() => daemon[Symbol.asyncDispose]());

  const compose = (...args: string[]): Promise<CommandResult> =>
    run(COMPOSE, ['--project-directory', dir, '--progress', 'quiet', ...args], {
      env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}`, DOCKER_CONFIG: join(daemon.dir, 'docker-config') },
    });
  const ok = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await compose(...args);
    if (code !== 0) throw new Error(`compose ${args.join(' ')}: exit ${code}\n${stderr}${stdout}`);
    return stdout.trim();
  };
  const states = async (...args: string[]): Promise<Record<string, string>> => {
    const lines = (await ok('ps', '--format', 'json', ...args)).split('\n').filter((line) => line !== '');
    const rows = lines.map((line) => JSON.parse(line) as { Name: string; State: string; Health: string });
    return Object.fromEntries(rows.map(({ Name, State, Health }) => [Name, Health || State]));
  };

  test('up waits for what services depend on, and is done again without a change', async () => {
    await ok('up', '-d', '--wait', 'web');
    expect(await states('-a')).toEqual({
      'shop-db-1': 'healthy',
      'shop-seed-1': 'exited',
      'shop-web-1': 'running',
    });
    const ids = await ok('ps', '-q');
    await ok('up', '-d', '--wait', 'web');
    expect(await ok('ps', '-q')).toBe(ids);
    expect(await ok('ls', '--format', 'json')).toContain('"Name":"shop"');
  });

  test('a container has the networks, names, secrets, configs, volumes and limits of its service', async () => {
    const inside = await ok(
      ...['exec', '-T', 'web', 'sh', '-c'],
      `cat /run/secrets/token /etc/settings.conf; echo " $COLOUR $FROM_BASE"; ip -o addr; nslookup store; cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max; mount | grep scratch`,
    );
    expect(inside).toContain('hushsize = 3 green yes');
    expect(inside).toContain('10.195.1.50');
    expect(inside).toContain('fd95:1::50');
    expect(inside.match(/ inet 1/g)).toHaveLength(3);
    expect(inside).toContain(String(64 << 20));
    expect(inside).toContain('tmpfs on /scratch');
    const fetched = await ok(
      ...['exec', '-T', 'web', 'sh', '-c', "printf 'GET /seed HTTP/1.0\\r\\n\\r\\n' | nc -w 5 10.195.1.50 80"],
    );
    expect(fetched).toContain('seeded');
    const { code } = await compose('exec', '-T', 'web', 'sh', '-c', 'exit 7');
    expect(code).toBe(7);
  });

  test('logs, top, images and events tell of the services', async () => {
    expect(await ok('logs', '--no-log-prefix', 'web')).toBe('ready');
    expect(await ok('top', 'db')).toContain('sleep 100000');
    expect(await ok('images', 'web')).toContain('busybox');
    // compose takes the end of the stream for a failure, with dockerd as well
    const { stdout } = await compose('events', '--json', '--since', '1h', '--until', '0s');
    expect(stdout).toMatch(/"action":"start".*"service":"db"|"service":"db".*"action":"start"/);
  });

  test('cp, run, pause, restart, scale and profiles', async () => {
    writeFileSync(join(dir, 'into.txt'), 'copied');
    await ok('cp', join(dir, 'into.txt'), 'web:/tmp/into.txt');
    await ok('cp', 'web:/tmp/into.txt', join(dir, 'out.txt'));
    expect(readFileSync(join(dir, 'out.txt'), 'utf8')).toBe('copied');
    expect(await ok('run', '--rm', '-T', '-e', 'X=1', 'web', 'sh', '-c', 'echo $X$COLOUR')).toBe('1green');
    await ok('pause', 'web');
    expect(await states('web')).toEqual({ 'shop-web-1': 'paused' });
    await ok('unpause', 'web');
    const before = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'shop-web-1');
    await ok('restart', 'web');
    expect(await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'shop-web-1')).not.toBe(before);
    await ok('up', '-d', '--scale', 'web=3', '--no-recreate', 'web');
    expect(Object.keys(await states('web')).sort()).toEqual(['shop-web-1', 'shop-web-2', 'shop-web-3']);
    await ok('up', '-d', '--scale', 'web=1', 'web');
    expect(Object.keys(await states('web'))).toEqual(['shop-web-1']);
    await ok('--profile', 'debug', 'up', '-d', 'debug');
    expect(await states('debug')).toEqual({ 'shop-debug-1': 'running' });
    await ok('kill', 'debug');
    await ok('rm', '-f', 'debug');
  });

  test('a changed service alone is made anew', async () => {
    const db = await ok('ps', '-q', 'db');
    const web = await ok('ps', '-q', 'web');
    writeFileSync(join(dir, '.env'), 'COLOUR=red\n');
    await ok('up', '-d', '--wait', 'web');
    expect(await ok('ps', '-q', 'db')).toBe(db);
    expect(await ok('ps', '-q', 'web')).not.toBe(web);
    expect(await ok('exec', '-T', 'web', 'sh', '-c', 'echo $COLOUR')).toBe('red');
  });

  test('down -v leaves nothing', async () => {
    await ok('stop');
    await ok('start');
    await ok('down', '-v', '--timeout', '0');
    expect(await daemon.dockerOk('ps', '-aq')).toBe('');
    expect(await daemon.dockerOk('volume', 'ls', '-q')).toBe('');
    expect(await daemon.dockerOk('network', 'ls', '-q', '-f', 'type=custom')).toBe('');
    expect(await oracle(daemon)).toEqual([]);
  });
});
