/** A daemon that is asked, with the things that the requests are about. */
import { type Answered, type Asked, ask } from './ask.ts';

const IMAGE = 'diff.test/plain:1';
/** Two of so many ids begin with the same character. */
const ENOUGH = 17;
const JSON_TYPE = { 'Content-Type': 'application/json' };

export class Subject {
  readonly names = new Map<string, string>();
  readonly #socket: string;
  readonly #archive: Buffer;
  readonly #kept = new Set<string>();

  /** `archive`: of a root filesystem with busybox. */
  constructor(socket: string, archive: Buffer) {
    this.#socket = socket;
    this.#archive = archive;
  }

  ask(asked: Asked): Promise<Answered> {
    return ask(this.#socket, this.names, asked);
  }

  /** What a request has made goes, what it has taken comes back. */
  async tidy(): Promise<void> {
    const images = await this.#list<{ RepoTags: string[] | null }>('/images/json');
    if (!images.some(({ RepoTags: tags }) => tags?.includes(IMAGE)))
      await this.#ok('POST', '/images/create?fromSrc=-&repo=diff.test/plain&tag=1', this.#archive, 'application/x-tar');
    const containers = await this.#list<{ Id: string; State: string }>('/containers/json?all=1');
    for (const { Id: id } of containers) if (!this.#kept.has(id)) await this.#remove(`/containers/${id}?force=1&v=1`);
    const there = new Map(containers.map(({ Id: id, State: state }) => [id, state]));
    for (const id of this.#kept) if (!there.has(id)) this.#kept.delete(id);
    await this.#keepContainers(there);
    const networks = await this.#list<{ Id: string; Name: string }>('/networks');
    for (const { Id: id, Name: name } of networks)
      if (!['bridge', 'host', 'none', 'diff-network'].includes(name)) await this.#remove(`/networks/${id}`);
    const network = networks.find(({ Name: name }) => name === 'diff-network')?.Id;
    this.names.set('network', network ?? (await this.#make('/networks/create', { Name: 'diff-network' })));
    const { Volumes: volumes } = JSON.parse((await this.ask({ method: 'GET', path: '/volumes' })).text) as {
      Volumes: { Name: string }[] | null;
    };
    for (const { Name: name } of volumes ?? []) if (name !== 'diff-volume') await this.#remove(`/volumes/${name}`);
    await this.#ok('POST', '/volumes/create', JSON.stringify({ Name: 'diff-volume' }));
  }

  async close(): Promise<void> {
    for (const id of this.#kept) await this.#remove(`/containers/${id}?force=1`);
    await this.#remove('/networks/diff-network');
    await this.#remove('/volumes/diff-volume');
  }

  async #keepContainers(there: Map<string, string>): Promise<void> {
    const running = this.names.get('running') ?? '';
    if (!there.has(running)) {
      this.names.set('running', await this.#container(['sleep', '1000000']));
      this.names.delete('exec');
    }
    if (there.get(running) !== 'running') {
      await this.#ok('POST', `/containers/${this.names.get('running')}/start`);
      this.names.delete('exec');
    }
    if (!this.#kept.has(this.names.get('stopped') ?? '')) this.names.set('stopped', await this.#container(['true']));
    while (this.#kept.size < ENOUGH) await this.#container(['true']);
    const firsts = [...this.#kept].map((id) => id.charAt(0));
    this.names.set('ambiguous', firsts.find((first, at) => firsts.indexOf(first) !== at) ?? '');
    if (!this.names.has('exec'))
      this.names.set('exec', await this.#make(`/containers/${this.names.get('running')}/exec`, { Cmd: ['true'] }));
  }

  async #container(Cmd: string[]): Promise<string> {
    const body = { Image: IMAGE, Cmd, StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none' } };
    const id = await this.#make('/containers/create', body);
    this.#kept.add(id);
    return id;
  }

  async #list<T>(path: string): Promise<T[]> {
    return JSON.parse((await this.ask({ method: 'GET', path })).text) as T[];
  }

  async #make(path: string, body: object): Promise<string> {
    return (JSON.parse(await this.#ok('POST', path, JSON.stringify(body))) as { Id: string }).Id;
  }

  #remove(path: string): Promise<Answered> {
    return this.ask({ method: 'DELETE', path });
  }

  async #ok(method: string, path: string, body?: string | Buffer, type = 'application/json'): Promise<string> {
    const headers = body === undefined ? {} : { ...JSON_TYPE, 'Content-Type': type };
    const { status, text } = await this.ask({ method, path, headers, ...(body === undefined ? {} : { body }) });
    if (status >= 400 || status === 0) throw new Error(`${this.#socket}: ${method} ${path}: ${status} ${text}`);
    return text;
  }
}
