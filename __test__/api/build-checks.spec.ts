/** `docker build --check` and `--call`: what a Dockerfile should not have, may be given, and can make; ours and dockerd's. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BASE, Buildx } from '../helpers/buildx.ts';
import { missing } from '../helpers/requires.ts';

const DOCKERFILE = `# base is what all have
FROM ${BASE} AS base
# SIZE of it
ARG SIZE=3
RUN --mount=type=secret,id=key,required true

FROM base as Last
ENV old way
CMD echo $GONE
WORKDIR $MISSING/dir
`;

describe.skipIf(missing('root', 'build', 'docker', 'buildx', 'compose'))('checks of a Dockerfile', () => {
  let buildx: Buildx;

  beforeAll(async () => {
    buildx = await Buildx.open();
  });

  afterAll(async () => {
    expect(await buildx.close()).toEqual([]);
  });

  const call = (...flags: string[]): ReturnType<Buildx['build']> =>
    buildx.build(buildx.context({ Dockerfile: DOCKERFILE }), ...flags);

  it('are told with their lines, and fail', async () => {
    const { code, stdout } = await call('--check');
    expect(code).toBe(1);
    const rules = [...stdout.matchAll(/^WARNING: (\S+) - (\S+)$/gm)].map(([, rule]) => rule);
    expect(rules.sort()).toEqual([
      'FromAsCasing',
      'JSONArgsRecommended',
      'LegacyKeyValueFormat',
      'StageNameCasing',
      'UndefinedVar',
    ]);
    expect(stdout).toContain("Usage of undefined variable '$MISSING'");
    expect(stdout).toMatch(/10 \| >>> WORKDIR \$MISSING\/dir/);
  });

  it('are warnings of a build', async () => {
    const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nMAINTAINER me` });
    expect((await buildx.build(dir)).stderr).toMatch(/1 warning found[\s\S]*MaintainerDeprecated: .* \(line 2\)/);
  });

  it('are left out, and fail a build, as the Dockerfile says', async () => {
    const text = (check: string): string => `# check=${check}\nFROM ${BASE}\nMAINTAINER me`;
    const skipped = await buildx.build(buildx.context({ Dockerfile: text('skip=MaintainerDeprecated') }));
    expect(skipped.stderr).not.toMatch(/warning/);
    const failed = await buildx.build(buildx.context({ Dockerfile: text('error=true') }));
    expect(failed.code).not.toBe(0);
    expect(failed.stderr).toMatch(/lint violation found for rules: MaintainerDeprecated/);
  });

  it('list the targets', async () => {
    const { stdout } = await call('--call', 'targets');
    expect(stdout).toMatch(/^base +is what all have$/m);
    expect(stdout).toMatch(/^last \(default\)/m);
  });

  it('list what a target may be given', async () => {
    const { stdout } = await call('--call', 'outline', '--build-arg', 'SIZE=4');
    expect(stdout).toMatch(/^SIZE +4 +of it$/m);
    expect(stdout).toMatch(/^key +true$/m);
  });
});
