// What users of dockerode do: prints what they see, as one line of JSON.

import { PassThrough } from 'node:stream';
import Docker from 'dockerode';

const docker = new Docker({ socketPath: process.env.SOCKET });
const image = process.env.IMAGE;
const text = (stream) => stream.toArray().then((chunks) => Buffer.concat(chunks).toString());

const out = new PassThrough();
const [ran, container] = await docker.run(image, ['sh', '-c', 'echo out; exit 3'], [out, new PassThrough()], {
  Tty: false,
});
out.end();
await container.remove();

const created = await docker.createContainer({
  Image: image,
  Cmd: ['sleep', '1000'],
  Labels: { sdk: 'dockerode' },
  HostConfig: { NetworkMode: 'none' },
});
await created.start();
const exec = await created.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
const session = await exec.start({ hijack: true, stdin: true });
const [stdout, stderr] = [new PassThrough(), new PassThrough()];
docker.modem.demuxStream(session, stdout, stderr);
session.write('typed');
session.end();
await new Promise((resolve) => session.once('end', resolve));
stdout.end();
const logs = await docker.getContainer(created.id).logs({ stdout: true, stderr: true });
const stats = await created.stats({ stream: false });
const listed = await docker.listContainers({ filters: { label: ['sdk=dockerode'] } });
const archive = await created.getArchive({ path: '/etc/passwd' });
const events = await docker.getEvents({ since: 1, until: Math.ceil(Date.now() / 1000) + 1 });
const seen = (await text(events))
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line).Action);
await created.stop({ t: 0 });
const { State } = await created.inspect();
await created.remove();
const missing = await docker
  .getContainer('nope')
  .inspect()
  .catch((error) => error);
console.log(
  JSON.stringify({
    run: [ran.StatusCode, await text(out)],
    exec: await text(stdout),
    logs: logs.length,
    stats: stats.memory_stats !== undefined,
    listed: listed.length,
    archive: (await text(archive)).includes('root:'),
    events: ['create', 'start', 'die', 'destroy'].every((action) => seen.includes(action)),
    state: [State.Status, State.ExitCode],
    missing: [missing.statusCode, missing.json.message],
  }),
);
