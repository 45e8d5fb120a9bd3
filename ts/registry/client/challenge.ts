/** What `WWW-Authenticate` asks for, and which token server may be given a password. */
import { isIP } from 'node:net';
import { hostnameOf, isLoopback } from './settings.ts';

export interface Challenge {
  /** In lower case. */
  scheme: string;
  parameters: Record<string, string>;
}

/** RFC 9110, 11.6.1: several challenges, each with parameters of which some are quoted. */
export function parseChallenges(value: string): Challenge[] {
  const found: Challenge[] = [];
  const token = /\s*,?\s*([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/y;
  for (let match = token.exec(value); match !== null; match = token.exec(value)) {
    const [, name = '', quoted, bare] = match;
    const text = quoted?.replace(/\\(.)/g, '$1') ?? bare;
    if (text === undefined) found.push({ scheme: name.toLowerCase(), parameters: {} });
    else {
      const current = found.at(-1);
      if (current !== undefined) current.parameters[name.toLowerCase()] = text;
    }
  }
  return found;
}

/** Ends under which strangers register names of their own, as far as registries are met there. */
const SHARED_SECOND = new Set(['ac', 'co', 'com', 'edu', 'gob', 'gov', 'mil', 'ne', 'net', 'nom', 'or', 'org']);
const SHARED_ENDS = [
  'amazonaws.com',
  'appspot.com',
  'azurecontainer.io',
  'azurecr.io',
  'azurewebsites.net',
  'cloudapp.azure.com',
  'cloudfront.net',
  'duckdns.org',
  'fly.dev',
  'github.io',
  'gitlab.io',
  'herokuapp.com',
  'netlify.app',
  'ngrok.io',
  'ngrok-free.app',
  'onrender.com',
  'pages.dev',
  'pkg.dev',
  'run.app',
  'trycloudflare.com',
  'vercel.app',
  'web.app',
  'workers.dev',
];

/** The part of a name that one owner registers: `docker.io` of `registry-1.docker.io`. */
export function registrableDomain(hostname: string): string {
  const labels = hostname.toLowerCase().replace(/\.$/, '').split('.');
  const shared = SHARED_ENDS.find((end) => `.${labels.join('.')}`.endsWith(`.${end}`));
  if (shared !== undefined) return labels.slice(-(shared.split('.').length + 1)).join('.');
  const countrySecond = (labels.at(-1) ?? '').length === 2 && SHARED_SECOND.has(labels.at(-2) ?? '');
  return labels.slice(countrySecond ? -3 : -2).join('.');
}

/**
 * `trusted`: may be given the user's credentials. `anonymous`: may be asked, but not given any. `refused`: is not even
 * asked: a registry shall not make the daemon knock on this machine's or its network's doors (CVE-2026-33540).
 */
export function judgeRealm(realm: URL, registry: URL): 'trusted' | 'anonymous' | 'refused' {
  if (!/^https?:$/.test(realm.protocol)) return 'refused';
  if (realm.protocol === 'http:' && registry.protocol === 'https:') return 'refused';
  const [name, own] = [hostnameOf(realm.host), hostnameOf(registry.host)];
  if (name === own) return 'trusted';
  if (isIP(name) !== 0 || isLoopback(name) || !name.includes('.')) return 'refused';
  if (isIP(own) !== 0 || isLoopback(own) || !own.includes('.')) return 'anonymous';
  return registrableDomain(name) === registrableDomain(own) ? 'trusted' : 'anonymous';
}
