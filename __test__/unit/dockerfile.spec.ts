/** What is written in a Dockerfile, and what of it is refused before anything is done. Reasons are Docker's. */
import { describe, expect, it } from 'vitest';
import { cleaned, ignoreRules, ignoring } from '../../ts/dockerignore.ts';
import { BuildArgs } from '../../ts/engine/builder/buildArgs.ts';
import { parseDockerfile } from '../../ts/engine/builder/dockerfile.ts';
import { matcher } from '../../ts/engine/builder/source.ts';
import { findStage, flagsOf, stagesOf } from '../../ts/engine/builder/stages.ts';

const parse = (text: string) => parseDockerfile(text).statements;
const stages = (text: string) => stagesOf(parseDockerfile(text));

describe('the text of a Dockerfile', () => {
  it('is instructions, whatever stands between them', () => {
    const text = '\uFEFF# a comment\n\nfrom a\r\n  run one \\\n# between\n\n  two\n\n\nCOPY --chown=1 --from=x a b\n';
    expect(parse(text).map(({ line, name, flags, text: rest }) => [line, name, flags, rest])).toEqual([
      [3, 'FROM', [], 'a'],
      [4, 'RUN', [], 'one   two'],
      [10, 'COPY', ['--chown=1', '--from=x'], 'a b'],
    ]);
    expect(parseDockerfile(text).warnings[0]).toContain('Empty continuation line found in:\n    run one   two');
  });

  it('may name another escape', () => {
    expect(parse('# escape=`\nFROM a\nRUN dir C:\\ `\n x')[1]?.text).toBe('dir C:\\  x');
    expect(() => parse('# escape=x\nFROM a')).toThrow("line 1: invalid escape token 'x' does not match ` or \\");
    expect(() => parse('# escape=`\n# escape=`\nFROM a')).toThrow(
      'line 2: only one escape parser directive can be used',
    );
    expect(parse('FROM a\n# escape=`\nRUN b \\\n c')[1]?.text).toBe('b  c');
  });

  it('holds here-documents', () => {
    const [, run, copy, shift] = parse(
      'FROM a\nRUN <<EOF cat\n $x\nEOF\nCOPY <<-"A" <<B /d/\n\t\tone $x\n\tA\ntwo\nB\nRUN echo $((1<<2)) "<<X"\n',
    );
    expect(run?.heredocs).toEqual([{ name: 'EOF', content: ' $x\n', literal: false }]);
    expect(copy?.heredocs).toEqual([
      { name: 'A', content: 'one $x\n', literal: true },
      { name: 'B', content: 'two\n', literal: false },
    ]);
    expect(shift?.heredocs).toEqual([]);
    expect(() => parse('FROM a\nRUN <<EOF\nx\n')).toThrow('line 2: unterminated heredoc');
  });

  it('with nothing in it is told', () => {
    expect(() => parse('# only\n\n')).toThrow('file with no instructions');
  });
});

describe('stages', () => {
  it('are found by name and by number', () => {
    const plan = stages('ARG V=1\nFROM a:$V AS Base\nRUN x\nFROM --platform=linux/arm64 b\n');
    expect(plan.args.map(({ text }) => text)).toEqual(['V=1']);
    expect(plan.stages.map(({ base, name, platform }) => [base, name, platform])).toEqual([
      ['a:$V', 'base', ''],
      ['b', '', 'linux/arm64'],
    ]);
    expect(['base', 'BASE', '0', '1', '2', 'x'].map((name) => findStage(plan.stages, name))).toEqual([
      0, 0, 0, 1, -1, -1,
    ]);
  });

  it('have flags that are known', () => {
    expect(flagsOf(parse('RUN --mount=type=tmpfs,target=/a --mount=target=/b --network=none x')[0] as never)).toEqual(
      new Map([
        ['mount', ['type=tmpfs,target=/a', 'target=/b']],
        ['network', ['none']],
      ]),
    );
  });

  it.each([
    ['RUN x', 'line 1: no build stage in current context'],
    ['FROM', 'line 1: FROM requires either one or three arguments'],
    ['FROM a b', 'line 1: FROM requires either one or three arguments'],
    ['FROM a AS 1x', 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'],
    ['FROM a\nWHAT x', 'line 2: unknown instruction: WHAT'],
    ['FROM a\nCOPY --what=x a b', 'line 2: unknown flag: --what'],
    ['FROM a\nCOPY --chown=x --chown=y a b', 'line 2: duplicate flag specified: --chown'],
    ['FROM a\nCOPY --chown a b', 'line 2: missing a value on flag: --chown'],
    ['FROM a\nCOPY --link=maybe a b', 'expecting boolean value for flag --link, not: maybe'],
    ['FROM a\nCOPY a', 'COPY requires at least two arguments, but only one was provided. Destination could not be'],
    ['FROM a\nENV a', 'line 2: ENV must have two arguments'],
    ['FROM a\nENV a=1 b', 'Syntax error - can\'t find = in "b". Must be of the form: name=value'],
    ['FROM a\nLABEL =1', 'line 2: LABEL names can not be blank'],
    ['FROM a\nEXPOSE', 'line 2: EXPOSE requires at least one argument'],
    ['FROM a\nUSER a b', 'line 2: USER requires exactly one argument'],
    ['FROM a\nSHELL bash', 'line 2: SHELL requires the arguments to be in JSON form'],
    ['FROM a\nVOLUME [""]', 'line 2: VOLUME specified can not be an empty string'],
    ['FROM a\nONBUILD ONBUILD RUN x', "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"],
    ['FROM a\nONBUILD FROM x', "FROM isn't allowed as an ONBUILD trigger"],
    ['FROM a\nRUN --network=bridge x', 'invalid network mode "bridge"'],
    ['FROM a\nRUN --security=insecure x', 'RUN --security=insecure is not supported'],
  ])('%j is refused', (text, reason) => {
    expect(() => stages(text)).toThrow(reason);
  });
});

describe('variables of a build', () => {
  it('are those that are declared, and proxies', () => {
    const args = new BuildArgs(
      new Map([
        ['a', 'given'],
        ['b', null],
        ['unused', 'x'],
        ['HTTP_PROXY', 'p'],
      ]),
      { TARGETOS: 'linux' },
    );
    args.globalScope.declare('g', 'global');
    expect([args.global('g'), args.global('a'), args.global('TARGETOS')]).toEqual(['global', undefined, 'linux']);
    const stage = args.stage();
    stage.declare('a', 'default');
    stage.declare('b', 'default');
    stage.declare('g', null);
    stage.declare('none', null);
    expect([...stage.all()]).toEqual([
      ['a', 'given'],
      ['b', 'default'],
      ['g', 'global'],
      ['HTTP_PROXY', 'p'],
    ]);
    expect([...args.stage().all().keys()]).toEqual(['HTTP_PROXY']);
    expect(args.unused()).toEqual(['unused']);
  });
});

describe('patterns', () => {
  it.each([
    ['*.txt', 'a.txt', true],
    ['*.txt', 'd/a.txt', false],
    ['d/*', 'd/a', true],
    ['[a-c]?', 'bx', true],
    ['[^a]', 'a', false],
    ['a\\*', 'a*', true],
    ['a\\*', 'ab', false],
    ['a+(b)', 'a+(b)', true],
  ])('%s and %s: %s', (pattern, path, is) => {
    expect(matcher(pattern).test(path)).toBe(is);
  });

  it.each([
    ['Dockerfile', 'Dockerfile', true],
    ['*\n!Dockerfile', 'Dockerfile', false],
    ['# Dockerfile\n', 'Dockerfile', false],
    ['**/Dockerfile', 'a/b/Dockerfile', true],
    ['a', 'a/b', true],
    ['/a/', 'a', true],
    ['./Dockerfile', 'Dockerfile', true],
  ])('.dockerignore %j and %s: %s', (rules, path, is) => {
    expect(ignoring(ignoreRules(rules))(path)).toBe(is);
  });

  it('are of clean paths', () => {
    expect(['./a//b/', '/', '../x', 'a/../b'].map(cleaned)).toEqual(['a/b', '', 'x', 'b']);
  });
});
