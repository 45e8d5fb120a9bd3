/** `caisson daemon --help`. */
import { SETTINGS } from './config.ts';
import { flagOptions } from './flags.ts';

/** What dockerd has no flag for. */
const OWN: Record<string, string> = {
  registry: 'serve a registry at this loopback address and port',
  'registry-certs-dir': 'certificates of registries, a directory for each host',
  'keep-layer-blobs': 'keep the compressed layers of pulled images too',
  'signature-policy': 'signatures that pulled images must have, as containers-policy.json(5)',
  'storage-budget': 'remove the images used least once they take more than this',
  'storage-pin': 'an image that the budget spares',
  firewall: "open: published ports pass the host's own rules; respect: these decide",
};

export function helpText(): string {
  const lines = Object.entries(flagOptions(SETTINGS))
    .filter(([, { refused }]) => !refused)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { type, short, multiple }]) => {
      const value = type === 'boolean' ? '' : ` VALUE${multiple ? ' …' : ''}`;
      const flag = `${short === undefined ? '   ' : `-${short},`} --${name}${value}`;
      return `  ${flag.padEnd(40)}${OWN[name] ?? ''}`.trimEnd();
    });
  return `Usage:  caisson daemon [OPTIONS]

Run the engine. Flags mean what they mean to dockerd; those of our own are explained. Settings may also stand
in a daemon.json (--config-file), under dockerd's keys.

Options:
${lines.join('\n')}

Examples:
  caisson daemon
  caisson daemon -H unix:///run/my.sock --data-root /srv/caisson --registry 127.0.0.1:5000
`;
}
