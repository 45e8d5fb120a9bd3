/** What records say of their container: chosen labels, environment variables and the tag. */
import { hostname } from 'node:os';
import { CaissonError } from '../../errdefs.ts';

export interface LoggedContainer {
  id: string;
  name: string;
  imageId: string;
  imageName: string;
  program: string[];
  labels: Record<string, string>;
  env: string[];
}

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** Go's inline flags stand at the beginning, JavaScript's beside the expression. */
function pattern(option: string, text: string): RegExp {
  const [, flags = '', rest = text] = /^\(\?([ims]+)\)(.*)$/s.exec(text) ?? [];
  try {
    return new RegExp(rest, flags);
  } catch (error) {
    throw invalid(`error parsing regexp of log opt ${option}: ${(error as Error).message}`);
  }
}

/** What the tag's template may name. */
function tagFields(container: LoggedContainer): Record<string, string> {
  const digest = container.imageId.replace(/^sha256:/, '');
  return {
    ID: container.id.slice(0, 12),
    FullID: container.id,
    Name: container.name,
    // Docker cuts its image id, the algorithm's name included
    ImageID: `sha256:${digest}`.slice(0, 12),
    ImageFullID: `sha256:${digest}`,
    ImageName: container.imageName,
    DaemonName: 'docker',
    Hostname: hostname(),
    Command: container.program.join(' '),
    ContainerID: container.id,
    ContainerName: `/${container.name}`,
    ContainerImageID: `sha256:${digest}`,
    ContainerImageName: container.imageName,
  };
}

/** `{{.Name}}/{{.ID}}`: fields and text. Other actions of Go's templates are refused by name. */
export function renderTag(template: string, container: LoggedContainer): string {
  const fields = tagFields(container);
  const closed = template.replace(/\{\{.*?\}\}/gs, '');
  if (closed.includes('{{')) throw invalid('template: log-tag:1: unclosed action');
  const trimmed = template.replace(/\s*\{\{-\s/g, '{{ ').replace(/\s-\}\}\s*/g, ' }}');
  return trimmed.replace(/\{\{\s*(.*?)\s*\}\}/gs, (_, action: string) => {
    const [, name] = /^\.(\w+)$/.exec(action) ?? [];
    if (name === undefined) {
      throw new CaissonError(
        'NotImplemented',
        `--log-opt tag: {{${action}}} is not supported by caisson, only {{.Field}}`,
      );
    }
    const value = fields[name];
    if (value === undefined) {
      throw invalid(`template: log-tag: executing "log-tag" at <.${name}>: can't evaluate field ${name}`);
    }
    return value;
  });
}

/** Empty strings choose nothing. */
function chosen(
  all: Record<string, string>,
  options: Record<string, string>,
  option: 'labels' | 'env',
): Record<string, string> {
  const names = new Set((options[option] ?? '').split(',').filter(Boolean));
  const regex = options[`${option}-regex`];
  const expression = regex ? pattern(`${option}-regex`, regex) : undefined;
  return Object.fromEntries(Object.entries(all).filter(([key]) => names.has(key) || expression?.test(key)));
}

function variables(env: string[]): Record<string, string> {
  const pairs = env.filter((entry) => entry.includes('='));
  return Object.fromEntries(
    pairs.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );
}

export const extraAttributes = (options: Record<string, string>, { labels, env }: LoggedContainer) => ({
  ...chosen(labels, options, 'labels'),
  ...chosen(variables(env), options, 'env'),
});

export function logAttributes(options: Record<string, string>, container: LoggedContainer): Record<string, string> {
  return {
    ...extraAttributes(options, container),
    ...(options['tag'] ? { tag: renderTag(options['tag'], container) } : {}),
  };
}

/** Throws what `logAttributes` would throw for any container. */
export function checkLogAttributes(options: Record<string, string>): void {
  logAttributes(options, { id: '', name: '', imageId: '', imageName: '', program: [], labels: {}, env: [] });
}
