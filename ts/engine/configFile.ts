/** The daemon's config file: daemon.json, with dockerd's keys. */
import { readFileSync } from 'node:fs';
import { invalid } from './configValues.ts';
import type { Setting } from './settings.ts';

/** Keys whose values are objects. */
const OBJECTS = ['builder', 'log-opts', 'default-ulimits', 'proxies', 'features', 'default-network-opts', 'runtimes'];
/** In `proxies` of the file, and as flags. */
export const PROXIES = ['http-proxy', 'https-proxy', 'no-proxy'];

/** By key, each of the type that its setting has. An absent file has none, unless it is `required`. */
export function readConfigFile(path: string, settings: readonly Setting[], required: boolean): Map<string, unknown> {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    if (!required && (error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw invalid(`config file ${path}: ${(error as Error).message}`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(content === '' ? '{}' : content);
  } catch (error) {
    throw invalid(`config file ${path}: ${(error as Error).message}`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw invalid(`config file ${path}: not a JSON object`);
  for (const [key, value] of Object.entries(parsed)) checkKey(path, settings, key, value);
  return new Map(Object.entries(parsed));
}

function checkKey(path: string, settings: readonly Setting[], key: string, value: unknown): void {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (OBJECTS.includes(key) && isObject) return;
  // dockerd's file has objects where its flag has `base=…,size=…`
  if (key === 'default-address-pools' && Array.isArray(value)) return;
  if (key === 'runtimes') throw invalid(`config file ${path}: the value of "runtimes" is not an object`);
  const setting = PROXIES.includes(key) ? undefined : settings.find((s) => (s.key ?? s.flag) === key);
  if (setting === undefined && !OBJECTS.includes(key))
    throw invalid(`config file ${path}: unknown key ${JSON.stringify(key)}`);
  if (setting?.refused === true) return;
  const good =
    setting?.kind === 'strings'
      ? Array.isArray(value) && value.every((v) => typeof v === 'string')
      : typeof value === setting?.kind;
  if (!good) throw invalid(`config file ${path}: the value of ${JSON.stringify(key)} is not of the type it must have`);
}
