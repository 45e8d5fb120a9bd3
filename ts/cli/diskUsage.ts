/** What `system df` counts: how many of each kind there are, how many are used, what they take and what could be freed. */
import type { DiskUsage } from '../client/index.ts';
import { humanSize } from '../humanSize.ts';

export interface UsageRow {
  Type: string;
  TotalCount: string;
  Active: string;
  Size: string;
  Reclaimable: string;
}

const ACTIVE_STATES = ['running', 'paused', 'restarting'];

const sum = <T>(items: readonly T[], size: (item: T) => number): number =>
  items.reduce((total, item) => total + Math.max(0, size(item)), 0);

export function usageRows({ LayersSize, Images, Containers, Volumes, BuildCache }: DiskUsage): UsageRow[] {
  const usedImages = (Images ?? []).filter(({ Containers: count }) => count > 0);
  const inUse = sum(usedImages, ({ Size, SharedSize }) => (Size < 0 || SharedSize < 0 ? 0 : Size - SharedSize));
  const idle = (Containers ?? []).filter(({ State }) => !ACTIVE_STATES.includes(State));
  const unused = (Volumes ?? []).filter(({ UsageData }) => (UsageData?.RefCount ?? 0) === 0);
  const free = (BuildCache ?? []).filter(({ InUse }) => !InUse);
  const containerSize = ({ SizeRw = 0 }: { SizeRw?: number }): number => SizeRw;
  const volumeSize = ({ UsageData }: { UsageData?: { Size: number } }): number => UsageData?.Size ?? 0;
  const cacheSize = ({ Size, Shared }: { Size: number; Shared: boolean }): number => (Shared ? 0 : Size);
  return [
    row('Images', Images, usedImages.length, LayersSize, LayersSize - inUse),
    row(
      'Containers',
      Containers,
      (Containers ?? []).length - idle.length,
      sum(Containers ?? [], containerSize),
      sum(idle, containerSize),
    ),
    row(
      'Local Volumes',
      Volumes,
      (Volumes ?? []).length - unused.length,
      sum(Volumes ?? [], volumeSize),
      sum(unused, volumeSize),
    ),
    row(
      'Build Cache',
      BuildCache,
      (BuildCache ?? []).length - free.length,
      sum(BuildCache ?? [], cacheSize),
      sum(free, cacheSize),
    ),
  ];
}

function row(Type: string, all: readonly unknown[] | null, active: number, size: number, free: number): UsageRow {
  const share = size > 0 ? ` (${Math.floor((free * 100) / size)}%)` : '';
  return {
    Type,
    TotalCount: String(all?.length ?? 0),
    Active: String(active),
    Size: humanSize(size, 4),
    Reclaimable: `${humanSize(free, 4)}${Type === 'Build Cache' ? '' : share}`,
  };
}
