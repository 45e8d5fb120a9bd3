/** Certificate authorities of a test's own, made by openssl. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const openssl = (...args: string[]): void =>
  void execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export interface Issued {
  /** Paths of PEM files. */
  certificate: string;
  key: string;
}

export class TestAuthority {
  readonly #dir: string;
  readonly certificate: string;
  #count = 0;

  constructor(dir: string) {
    this.#dir = dir;
    this.certificate = join(dir, 'ca.crt');
    mkdirSync(dir, { recursive: true });
    const output = ['-keyout', join(dir, 'ca.key'), '-out', this.certificate];
    openssl('req', '-x509', ...NEW_KEY, ...output, '-days', '2', '-subj', '/CN=test authority');
  }

  /** For the host `name`, or for a client of that name; or with extensions of openssl's in place of these. */
  issue(name: string, { expired = false, extensions }: { expired?: boolean; extensions?: string[] } = {}): Issued {
    const base = join(this.#dir, String(this.#count++));
    const issued = { certificate: `${base}.crt`, key: `${base}.key` };
    const usual = [`subjectAltName=DNS:${name}`, 'extendedKeyUsage=serverAuth,clientAuth'];
    writeFileSync(`${base}.ext`, `${(extensions ?? usual).join('\n')}\n`);
    openssl('req', '-new', ...NEW_KEY, '-keyout', issued.key, '-out', `${base}.csr`, '-subj', `/CN=${name}`);
    const signed = ['-CA', this.certificate, '-CAkey', join(this.#dir, 'ca.key'), '-CAcreateserial'];
    const files = ['-in', `${base}.csr`, '-out', issued.certificate, '-extfile', `${base}.ext`];
    // x509 knows no end before its beginning; a validity of -1 days ended yesterday.
    openssl('x509', '-req', ...signed, ...files, '-days', expired ? '-1' : '2');
    return issued;
  }
}
