/** A setting of the daemon: a flag and a key of the config file. */
import type { DaemonConfig } from './config.ts';

export type Kind = 'string' | 'strings' | 'boolean' | 'number';

export interface Setting {
  /** dockerd's name of the flag, and of the key unless `key` differs. */
  flag: string;
  key?: string;
  kind: Kind;
  short?: string;
  set: (config: DaemonConfig, value: never) => void;
  /** May change by SIGHUP. */
  reloadable?: true;
  /** What a file that does not name it any more brings back at SIGHUP; absent: it stays as it is. */
  reloadDefault?: number;
  /** Known by its name alone, to say why it is not there. */
  refused?: true;
}

export const text = (
  flag: string,
  set: (config: DaemonConfig, value: string) => void,
  more: Partial<Setting> = {},
): Setting => ({
  flag,
  kind: 'string',
  set,
  ...more,
});
export const list = (
  flag: string,
  key: string,
  set: (config: DaemonConfig, value: string[]) => void,
  more: Partial<Setting> = {},
): Setting => ({
  flag,
  key,
  kind: 'strings',
  set,
  ...more,
});
export const flag = (
  name: string,
  set: (config: DaemonConfig, value: boolean) => void,
  more: Partial<Setting> = {},
): Setting => ({
  flag: name,
  kind: 'boolean',
  set,
  ...more,
});
export const number = (
  name: string,
  set: (config: DaemonConfig, value: number) => void,
  more: Partial<Setting> = {},
): Setting => ({
  flag: name,
  kind: 'number',
  set,
  ...more,
});
