/** `caisson doctor`. */
import { defaultAddress } from '../../client/address.ts';
import { CaissonError } from '../../client/index.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { type Check, hostChecks } from '../hostChecks.ts';

const SHAPE: CommandShape = {
  name: 'doctor',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Say what this machine has and lacks for containers; 1 when something is missing',
  flags: [['--json', 'As JSON']],
  examples: ['caisson doctor', 'caisson doctor --json'],
};

const DEFAULT_DATA_ROOT = '/var/lib/caisson';
const MARKS = { ok: '✓', warning: '!', missing: '✗' };

export default command<{ json?: boolean }>(SHAPE, async ({ flags }) => {
  const { checks: daemon, dataRoot } = await daemonChecks();
  // Of another machine only its daemon can tell.
  const local = /^(?:unix:|\/)/.test(defaultAddress());
  const checks = [...(local ? hostChecks(dataRoot) : []), ...daemon];
  if (flags.json) process.stdout.write(`${JSON.stringify(checks)}\n`);
  else for (const check of checks) process.stdout.write(line(check));
  return checks.some(({ state }) => state === 'missing') ? 1 : 0;
});

const line = ({ name, state, detail, fix }: Check): string =>
  `${MARKS[state]} ${name.padEnd(16)} ${detail}\n${fix === undefined ? '' : `  ${''.padEnd(16)} fix: ${fix}\n`}`;

async function daemonChecks(): Promise<{ checks: Check[]; dataRoot: string }> {
  try {
    const info = await engine().info();
    const firewall = info.FirewallBackend?.Driver ?? 'unknown';
    const checks: Check[] = [
      {
        name: 'daemon',
        state: 'ok',
        detail: `${info.ServerVersion} at ${defaultAddress()}, data in ${info.DockerRootDir}`,
      },
      { name: 'firewall', state: 'ok', detail: `${firewall}` },
      ...(info.Warnings ?? []).map(
        (text): Check => ({ name: 'daemon', state: 'warning', detail: text.replace(/^WARNING: /, '') }),
      ),
    ];
    return { checks, dataRoot: info.DockerRootDir };
  } catch (error) {
    if (!(error instanceof CaissonError)) throw error;
    const { message, hint } = error;
    const check: Check = {
      name: 'daemon',
      state: 'missing',
      detail: message,
      ...(hint !== undefined && { fix: hint }),
    };
    return { checks: [check], dataRoot: DEFAULT_DATA_ROOT };
  }
}
