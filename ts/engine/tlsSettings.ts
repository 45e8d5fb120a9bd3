/** `--tls`, `--tlsverify` and the three files, as dockerd has them. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { TlsSettings } from './api/tls.ts';
import type { DaemonConfig } from './config.ts';
import { flag, type Setting, text } from './settings.ts';

/** What was given. */
export interface TlsOptions {
  on?: boolean;
  verify?: boolean;
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}

export const TLS_SETTINGS: Setting[] = [
  flag('tls', (c, v) => (c.tls.on = v)),
  flag('tlsverify', (c, v) => (c.tls.verify = v)),
  text('tlscacert', (c, v) => (c.tls.caFile = v)),
  text('tlscert', (c, v) => (c.tls.certFile = v)),
  text('tlskey', (c, v) => (c.tls.keyFile = v)),
];

/** Undefined: no TLS. `tlsverify` turns it on, also with false; who wants TLS wants clients with certificates. */
export function tlsSettings({ tls }: DaemonConfig): TlsSettings | undefined {
  const { on = false, verify } = tls;
  if (!on && verify === undefined) return undefined;
  const dir = process.env['DOCKER_CERT_PATH'] || join(homedir(), '.docker');
  return {
    verify: verify ?? true,
    caFile: tls.caFile ?? join(dir, 'ca.pem'),
    certFile: tls.certFile ?? join(dir, 'cert.pem'),
    keyFile: tls.keyFile ?? join(dir, 'key.pem'),
  };
}
