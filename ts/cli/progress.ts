/** The progress of a pull or load: a bar for each layer on a terminal, a line for each change elsewhere. */
import type { MultiBar, SingleBar } from 'cli-progress';
import type { Progress, Transfer } from '../client/index.ts';
import { humanSize } from '../humanSize.ts';

/** Resolves when the transfer is done, rejects when it fails. */
export async function showProgress(
  transfer: Transfer,
  { quiet = false, out = process.stderr }: { quiet?: boolean; out?: NodeJS.WriteStream } = {},
): Promise<void> {
  if (quiet) return void (await transfer);
  if (!out.isTTY) {
    const shown = new Map<string | undefined, string>();
    for await (const line of transfer) {
      if (line.stream !== undefined) process.stdout.write(line.stream);
      // One line a change: a count of bytes is none.
      else if (line.status !== undefined && shown.get(line.id) !== line.status) {
        shown.set(line.id, line.status);
        out.write(line.id === undefined ? `${line.status}\n` : `${line.id}: ${line.status}\n`);
      }
    }
    return;
  }
  const bars = await openBars(out);
  try {
    for await (const line of transfer) bars.show(line);
  } finally {
    bars.close();
  }
}

async function openBars(out: NodeJS.WriteStream): Promise<{ show(line: Progress): void; close(): void }> {
  const { MultiBar, Presets } = await import('cli-progress');
  const multi: MultiBar = new MultiBar(
    {
      stream: out,
      hideCursor: true,
      clearOnComplete: false,
      format: (_options, { progress }, { id, status, current, total }: Record<string, string>) => {
        const width = Math.max(10, Math.min(40, (out.columns ?? 80) - 60));
        const done = Math.round(Math.min(progress, 1) * width);
        const bar = total
          ? ` [${'='.repeat(done)}${done < width ? '>' : ''}${' '.repeat(Math.max(0, width - done - 1))}] ${current}/${total}`
          : '';
        return `${id}: ${status}${bar}`;
      },
    },
    Presets.legacy,
  );
  const bars = new Map<string, SingleBar>();
  const last: string[] = [];
  return {
    show({ id, status, stream, progressDetail }) {
      if (stream !== undefined) last.push(stream);
      else if (status !== undefined && (id === undefined || /^Pulling from/.test(status)))
        last.length === 0 && id !== undefined ? multi.log(`${id}: ${status}\n`) : last.push(`${status}\n`);
      else if (id !== undefined && status !== undefined) {
        const { current, total } = progressDetail ?? {};
        const bar = bars.get(id) ?? multi.create(total ?? 1, 0, { id, status });
        bars.set(id, bar);
        if (total !== undefined) bar.setTotal(total);
        const sizes = {
          current: current === undefined ? '' : humanSize(current),
          total: total === undefined ? '' : humanSize(total),
        };
        bar.update(current ?? 0, { id, status, ...sizes });
      }
    },
    close() {
      multi.stop();
      process.stdout.write(last.join(''));
    },
  };
}
