/** TLS to an engine behind a tcp address. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { CaissonError } from '../errdefs.ts';

/** Texts in PEM. */
export interface TlsOptions {
  /** Authorities that the engine's certificate may come from; absent: those of this machine. */
  ca?: string;
  /** What this client shows of itself. */
  cert?: string;
  key?: string;
  /** False: whoever answers is taken for the engine. */
  verify: boolean;
}

type Environment = Record<string, string | undefined>;

/** Of `$DOCKER_TLS_VERIFY` or `$DOCKER_TLS`, with ca.pem, cert.pem and key.pem of `$DOCKER_CERT_PATH`; undefined: no TLS. */
export function defaultTls(env: Environment = process.env): TlsOptions | undefined {
  const verify = Boolean(env['DOCKER_TLS_VERIFY']);
  if (!verify && !env['DOCKER_TLS']) return undefined;
  const dir = env['DOCKER_CERT_PATH'] || env['DOCKER_CONFIG'] || join(homedir(), '.docker');
  const read = (variable: string, name: string): string | undefined => {
    const path = env[variable] || join(dir, name);
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      // Docker's client takes those of the directory where they are there, and insists on what was named.
      if (code === 'ENOENT' && !env[variable] && !(verify && name === 'ca.pem')) return undefined;
      throw new CaissonError('InvalidParameter', `cannot read ${path}: ${message}`, {
        code: 'TLS_FILES',
        hint: 'set DOCKER_CERT_PATH to the directory with ca.pem, cert.pem and key.pem',
        path,
        cause,
      });
    }
  };
  const [ca, cert, key] = [
    verify ? read('DOCKER_TLS_CACERT', 'ca.pem') : undefined,
    read('DOCKER_TLS_CERT', 'cert.pem'),
    read('DOCKER_TLS_KEY', 'key.pem'),
  ];
  return {
    verify,
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  };
}
