/**
 * Options of the local driver, as mount(8) has them: `type`, `device` and `o`. A bind is a volume whose directory is
 * elsewhere; any other filesystem is mounted for each container that uses the volume, in its own mount namespace, so that
 * nothing of it is ever on the host.
 */
import { CaissonError } from '../../errdefs.ts';

export interface VolumeSource {
  /** Another directory than the volume's own. */
  directory?: string;
  /** Mounted at the start of a container. */
  filesystem?: { type: string; device: string; options: string[] };
  readOnly: boolean;
}

/** Each needs the others. */
const NEEDED: Record<string, string[]> = { device: ['type'], type: ['device'], o: ['device', 'type'] };

const invalid = (volume: string, why: string): CaissonError =>
  new CaissonError('InvalidParameter', `create ${volume}: ${why}`);

export function checkVolumeOptions(volume: string, options: Record<string, string>): void {
  for (const name of Object.keys(options)) {
    if (!['type', 'o', 'device', 'size'].includes(name)) throw invalid(volume, `invalid option: "${name}"`);
  }
  if (options['size']) throw invalid(volume, 'quota size requested but no quota support');
  for (const [name, needed] of Object.entries(NEEDED)) {
    if (!options[name]) continue;
    for (const other of needed) {
      if (!options[other]) throw invalid(volume, `missing required option: "${other}"`);
    }
  }
  const words = (options['o'] ?? '').split(',');
  const bind = words.includes('bind') || words.includes('rbind');
  if (bind && !options['device']?.startsWith('/')) {
    throw invalid(volume, `the device of a bind must be an absolute path: ${JSON.stringify(options['device'])}`);
  }
  if (/^nfs4?$/.test(options['type'] ?? '') && !words.some((word) => /^addr=.+/.test(word))) {
    throw invalid(volume, 'a volume of type nfs needs the address of its server: o=addr=ADDRESS');
  }
  if (Object.values(options).some((value) => value.includes('\0'))) throw invalid(volume, 'an option holds a NUL byte');
}

export function volumeSource(options: Record<string, string>): VolumeSource {
  const { type = '', device = '', o = '' } = options;
  const words = o.split(',').filter((word) => word !== '');
  const readOnly = words.includes('ro');
  if (type === '') return { readOnly: false };
  if (words.includes('bind') || words.includes('rbind')) return { directory: device, readOnly };
  return { filesystem: { type, device, options: words }, readOnly };
}
