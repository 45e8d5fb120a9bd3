/**
 * Options that caisson does not have: 501 with the option's name when one is set, never silence. Fields that Docker does not
 * know either are passed over, as Docker does: management tools send a form's own fields along.
 */
import { CaissonError } from '../../errdefs.ts';
import type { CreateBody } from '../api/schemas/containers.ts';

const refuse = (option: string): CaissonError =>
  new CaissonError('NotImplemented', `${option} is not supported by caisson`, { code: 'OPTION_NOT_SUPPORTED' });

export function refuseUnsupported({ HostConfig: hostConfig }: CreateBody): void {
  if (hostConfig?.Cgroup) throw refuse('HostConfig.Cgroup');
  if (hostConfig?.UsernsMode && hostConfig.UsernsMode !== 'host') throw refuse(`--userns ${hostConfig.UsernsMode}`);
}
