/** `caisson images`. */
import type { ImageSummary } from '../../client/index.ts';
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { parseFilters } from '../filters.ts';
import { type Column, type ListFlags, printList } from '../table.ts';
import { showAge, showSize } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'images',
  usage: '[OPTIONS] [REPOSITORY[:TAG]]',
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
  usageCode: 1,
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

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<ImagesFlags>(SHAPE, argv);
  requireArguments(SHAPE, args, 0, 1);
  const filters = parseFilters(flags.filter);
  if (args[0] !== undefined) filters['reference'] = [args[0]];
  const images = await engine().images.list({ all: flags.all === true, filters });
  const short = (id: string): string => (flags.trunc ? id.replace(/^sha256:/, '').slice(0, 12) : id);
  if (flags.quiet && flags.format === undefined && !flags.json) {
    for (const { Id } of images) process.stdout.write(`${short(Id)}\n`);
    return 0;
  }
  const digest: Column<Row> = { title: 'DIGEST', field: 'Digest', value: (row) => row.digest };
  const columns: Column<Row>[] = [
    { title: 'REPOSITORY', field: 'Repository', value: (row) => row.repository, flexible: true },
    { title: 'TAG', field: 'Tag', value: (row) => row.tag },
    ...(flags.digests ? [digest] : []),
    { title: 'IMAGE ID', field: 'ID', value: ({ image }) => short(image.Id) },
    {
      title: 'CREATED',
      field: 'CreatedSince',
      value: ({ image }) => `${showAge(Date.now() / 1000 - image.Created)} ago`,
    },
    { title: 'SIZE', field: 'Size', value: ({ image }) => showSize(image.Size) },
  ];
  const createdAt: Column<Row> = {
    title: 'CREATED AT',
    field: 'CreatedAt',
    value: ({ image }) => new Date(image.Created * 1000).toISOString(),
  };
  await printList(images.flatMap(rows), columns, flags, [createdAt, ...(flags.digests ? [] : [digest])]);
  return 0;
}

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
