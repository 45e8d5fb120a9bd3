/** `caisson images`. */
import type { ImageSummary } from '../../client/index.ts';
import { humanSize } from '../../humanSize.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { parseFilters } from '../filters.ts';
import { type Column, type ListFlags, type Listing, printList } from '../table.ts';
import { showAge, showTime } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'images',
  usage: '[OPTIONS] [REPOSITORY[:TAG]]',
  takes: [0, 1],
  summary: 'List images',
  flags: [
    ['-a, --all', 'Intermediate ones too'],
    ['--digests', 'Show digests'],
    ['-f, --filter <name=value>', 'Only those that match', 'list'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['--no-trunc', 'Nothing is shortened'],
    ['-q, --quiet', 'Only ids'],
  ],
  examples: ['caisson images', "caisson images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"],
};

interface ImagesFlags extends ListFlags {
  all?: boolean;
  digests?: boolean;
  filter: string[];
  trunc: boolean;
}

interface Row {
  repository: string;
  tag: string;
  digest: string;
  image: ImageSummary;
}

export default command<ImagesFlags>(SHAPE, async ({ flags, args }) => {
  const filters = parseFilters(flags.filter);
  if (args[0] !== undefined) filters['reference'] = [args[0]];
  const images = await engine().images.list({ all: flags.all === true, filters });
  if (flags.quiet && flags.format === undefined && !flags.json) {
    for (const { Id } of images) process.stdout.write(`${shortId(Id, flags.trunc)}\n`);
    return 0;
  }
  await printList(imageRows(images), imageListing({ ...flags, digests: flags.digests === true, shared: false }), flags);
  return 0;
});

const shortId = (id: string, trunc: boolean): string => (trunc ? id.replace(/^sha256:/, '').slice(0, 12) : id);

/** `shared`: with what is shared with others, as `system df -v` shows it. */
export function imageListing(show: { digests: boolean; trunc: boolean; shared: boolean }): Listing<Row> {
  const digest: Column<Row> = { title: 'DIGEST', field: 'Digest', value: (row) => row.digest };
  const shared: Column<Row>[] = [
    {
      title: 'SHARED SIZE',
      field: 'SharedSize',
      value: ({ image }) => known(image.SharedSize, (size) => humanSize(size, 4)),
    },
    {
      title: 'UNIQUE SIZE',
      field: 'UniqueSize',
      value: ({ image }) => known(image.SharedSize, (size) => humanSize(image.Size - size, 4)),
    },
    { title: 'CONTAINERS', field: 'Containers', value: ({ image }) => known(image.Containers, String) },
  ];
  const columns: Column<Row>[] = [
    { title: 'REPOSITORY', field: 'Repository', value: (row) => row.repository, flexible: true },
    { title: 'TAG', field: 'Tag', value: (row) => row.tag },
    ...(show.digests ? [digest] : []),
    { title: 'IMAGE ID', field: 'ID', value: ({ image }) => shortId(image.Id, show.trunc) },
    {
      title: 'CREATED',
      field: 'CreatedSince',
      value: ({ image }) => `${showAge(Date.now() / 1000 - image.Created)} ago`,
    },
    { title: 'SIZE', field: 'Size', value: ({ image }) => humanSize(image.Size) },
    ...(show.shared ? shared : []),
  ];
  const more: Column<Row>[] = [
    ...(show.digests ? [] : [digest]),
    ...(show.shared ? [] : shared),
    { title: 'CREATED AT', field: 'CreatedAt', value: ({ image }) => showTime(image.Created * 1000) },
  ];
  return { columns, more };
}

export const imageRows = (images: readonly ImageSummary[]): Row[] => images.flatMap(rows);

/** -1 says that it was not computed. */
const known = (value: number | undefined, show: (value: number) => string): string =>
  value === undefined || value < 0 ? 'N/A' : show(value);

/** One a name; an image without is `<none>`. */
function rows(image: ImageSummary): Row[] {
  const digests = (image.RepoDigests ?? []).map((text) => text.split('@'));
  const tags = (image.RepoTags ?? []).filter((tag) => tag !== '<none>:<none>');
  if (tags.length === 0) {
    const [repository = '<none>', digest = '<none>'] = digests[0] ?? [];
    return [{ repository, tag: '<none>', digest, image }];
  }
  return tags.map((name) => {
    const at = name.lastIndexOf(':');
    const repository = name.slice(0, at);
    const digest = digests.find(([of]) => of === repository)?.[1] ?? '<none>';
    return { repository, tag: name.slice(at + 1), digest, image };
  });
}
