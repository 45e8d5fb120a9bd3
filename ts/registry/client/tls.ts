/** TLS of one registry host: the system's authorities and those that `certs.d/HOST` adds, and client certificates. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tls from 'node:tls';
import { CaissonError } from '../../errdefs.ts';

export interface HostTls {
  context: tls.SecureContext | undefined;
  verify: boolean;
}

/** Node's own list and the machine's: a company's authority stands in the latter. */
function systemAuthorities(): string[] {
  const listed = typeof tls.getCACertificates === 'function' ? tls.getCACertificates('system') : [];
  return [...new Set([...tls.rootCertificates, ...listed])];
}

let trusted: tls.SecureContext | undefined;

export function hostTls(host: string, certsDir: string, verify: boolean): HostTls {
  // A colon in a name of a directory is as Docker has it; a slash cannot be, the host came from a parsed URL.
  const dir = join(certsDir, host);
  if (!existsSync(dir)) {
    trusted ??= tls.createSecureContext({ ca: systemAuthorities() });
    return { context: trusted, verify };
  }
  const names = readdirSync(dir).sort();
  const read = (name: string): string => readFileSync(join(dir, name), 'utf8');
  const authorities = names.filter((name) => name.endsWith('.crt')).map(read);
  const pairs = names
    .filter((name) => name.endsWith('.cert'))
    .map((name) => {
      const key = `${name.slice(0, -'.cert'.length)}.key`;
      if (!names.includes(key))
        throw new CaissonError('InvalidParameter', `missing key ${key} for client certificate ${name} in ${dir}`);
      return { cert: read(name), key: read(key) };
    });
  const context = tls.createSecureContext({
    ca: [...systemAuthorities(), ...authorities],
    ...(pairs.length === 0 ? {} : { cert: pairs.map(({ cert }) => cert), key: pairs.map(({ key }) => key) }),
  });
  return { context, verify };
}
