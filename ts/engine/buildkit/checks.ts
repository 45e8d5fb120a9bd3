/** The checks of a Dockerfile (lint.ts) during a build: what they need to know, and how their warnings are told. */
import type { BuildOptions } from '../builder/builder.ts';
import type { LintFacts } from '../builder/lint.ts';
import type { LintWarning } from '../builder/lintRules.ts';
import type { Engine } from '../engine.ts';
import { parsePlatform } from '../images/platform.ts';
import type { Vertex } from './status.ts';

export interface DockerfileText {
  filename: string;
  text: string;
}

/** `ignored`: the rules of `.dockerignore`. */
export function factsOf(
  { images }: Engine,
  { target, buildArgs, platform }: Pick<BuildOptions, 'target' | 'buildArgs' | 'platform'>,
  ignored: readonly string[],
): Omit<LintFacts, 'allStages'> {
  const { hostPlatform } = images;
  return {
    target,
    buildArgs,
    platform: parsePlatform(platform, hostPlatform) ?? hostPlatform,
    hostPlatform,
    baseOf: (name) => {
      try {
        const { config } = images.find(name);
        return { env: config.config?.Env ?? [], shell: (config.config?.Shell ?? []).length > 0, platform: config };
      } catch {
        // it would have to be pulled first
        return undefined;
      }
    },
    ignored,
  };
}

/** `vertex`: of the Dockerfile. */
export function warn(vertex: Vertex, { filename, text }: DockerfileText, warnings: readonly LintWarning[]): void {
  const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
  const info = { filename, language: 'Dockerfile', data: bytes(text) };
  for (const { rule, detail, description, url, lines } of warnings) {
    const [start, end] = lines.map((line) => ({ line, character: 0 }));
    if (start === undefined || end === undefined) continue;
    const at = { info, ranges: [{ start, end }] };
    vertex.warn(`${rule}: ${detail} (line ${lines[0]})`, { detail: [bytes(description)], url, ...at });
  }
}
