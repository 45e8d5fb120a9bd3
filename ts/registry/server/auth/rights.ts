/** Who may do what with which repositories. */

export type Action = 'pull' | 'push' | 'delete';
export const ACTIONS: readonly Action[] = ['pull', 'push', 'delete'];

export interface Principal {
  /** Undefined: nobody has said who he is. */
  name: string | undefined;
  may(repository: string, action: Action): boolean;
  /** Whether the list of repositories may be asked for, and which ones it shows. */
  mayList: boolean;
  sees(repository: string): boolean;
}

export interface Right {
  /** Names; `*` is everybody who has logged in, `anonymous` who has not. */
  users: readonly string[];
  /** Patterns: `*` stands for characters within one component, `**` also for slashes. */
  repositories: readonly string[];
  actions: readonly Action[];
}

export const EVERYTHING: Omit<Right, 'users'> = { repositories: ['**'], actions: ACTIONS };

const compiled = new Map<string, RegExp>();

export function matches(pattern: string, repository: string): boolean {
  let expression = compiled.get(pattern);
  if (expression === undefined) {
    const source = pattern
      .split(/(\*\*|\*)/)
      .map((part) => (part === '**' ? '.*' : part === '*' ? '[^/]*' : part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')))
      .join('');
    expression = new RegExp(`^${source}$`);
    compiled.set(pattern, expression);
  }
  return expression.test(repository);
}

export function principalOf(name: string | undefined, rights: readonly Right[]): Principal {
  const own = rights.filter(({ users }) =>
    name === undefined ? users.includes('anonymous') : users.includes(name) || users.includes('*'),
  );
  const may = (repository: string, action: Action): boolean =>
    own.some(
      ({ repositories, actions }) =>
        actions.includes(action) && repositories.some((pattern) => matches(pattern, repository)),
    );
  return { name, may, mayList: own.length > 0, sees: (repository) => may(repository, 'pull') };
}
