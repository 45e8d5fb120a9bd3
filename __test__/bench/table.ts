/** BENCH.md: the rows of a run with the facts of the machine. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../ts/packageRoot.ts';
import type { Row } from './bench.ts';
import { median, quantile, ratio } from './statistics.ts';

const version = (command: string): string =>
  execFileSync(command, ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';

const cell = (values: number[], unit: string): string =>
  values.length === 1
    ? `${(values[0] ?? 0).toFixed(1)} ${unit}`
    : `${median(values).toFixed(2)} ${unit} (${quantile(values, 0.1).toFixed(2)}–${quantile(values, 0.9).toFixed(2)})`;

/** What the table of an earlier run says of rows that were not measured now stays; `of` names the commit of each. */
export function table(rows: Row[], earlier = ''): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: packageRoot, encoding: 'utf8' }).trim();
  const lines = new Map([...earlier.matchAll(/^\| (\S+) \|.* \d+ \| \S+ \|$/gm)].map(([line, id = '']) => [id, line]));
  for (const row of rows) {
    const r = ratio(row.theirs, row.ours);
    const interval = row.ours.length === 1 ? '' : ` (${r.low.toFixed(2)}–${r.high.toFixed(2)})`;
    lines.set(
      row.id,
      `| ${row.id} | ${row.what} | ${cell(row.ours, row.unit)} | ${row.peer} ${cell(row.theirs, row.unit)} | **${r.median.toFixed(2)}**${interval} | ${row.ours.length} | ${commit} |`,
    );
  }
  const dockerd = join(packageRoot, '.cache/peers/root/usr/sbin/dockerd');
  return `# Benchmarks

Written by \`npm run bench\`: of each row interleaved pairs in random order in one run (\`of\` is its commit), medians with the 10th and 90th percentile; the ratio is the median of the pairs' ratios (peer / caisson: above 1,
caisson needs less) with its bootstrap 95 % interval. Burst: one after the other; sporadic: after 250 ms of rest, when the kernel's grace periods are paid. A static C client times the API rows.

Machine: Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, cgroup ${existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'v2' : 'v1'};
Node ${process.version}; ${[dockerd, 'podman', 'runc', 'crun'].map(version).join('; ')}.

| row | measured | caisson | peer | ratio (95 %) | n | of |
| --- | --- | --- | --- | --- | --- | --- |
${[...lines.values()].join('\n')}
`;
}
