/** A container as its log speaks of it, and where a log that goes elsewhere goes. */
import { dirname, join } from 'node:path';
import { extraAttributes, type LoggedContainer, renderTag } from '../logs/attributes.ts';
import type { Route } from '../logs/remote/forwarder.ts';
import { isRemote } from '../logs/remote/options.ts';
import { type ContainerRecord, programOf } from './record.ts';

const DEFAULT_TAG = '{{.ID}}';

export const loggedContainer = ({ row, config }: Pick<ContainerRecord, 'row' | 'config'>): LoggedContainer => ({
  ...row,
  program: programOf(config),
  labels: config.Labels,
  env: config.Env,
});

/** Undefined for a log that stays here. */
export function logRoute(record: ContainerRecord): Route | undefined {
  const { row, hostConfig, detail } = record;
  const { Type: driver, Config: options } = hostConfig.LogConfig;
  if (!isRemote(driver)) return undefined;
  const container = loggedContainer(record);
  const { id, name, imageId, imageName, created } = row;
  return {
    driver,
    options,
    subject: {
      id,
      name,
      imageId,
      imageName,
      created,
      command: container.program.join(' '),
      tag: renderTag(options['tag'] || DEFAULT_TAG, container),
      extra: extraAttributes(options, container),
    },
    path: detail.logPath,
    positionPath: join(dirname(detail.logPath), 'forwarded'),
  };
}
