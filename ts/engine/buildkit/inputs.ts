/** Results of one build that go into another one (`target:` of bake): named in the graph of operations that a client passes on. */

import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { CaissonError } from '../../errdefs.ts';
import { type Definition, DefinitionSchema, OpSchema } from './proto/control_pb.ts';

const PREFIX = 'caisson-image://';

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** `id`: of an image; undefined for no files at all. */
export function definitionOf(id: string | undefined): Definition {
  if (id === undefined) return create(DefinitionSchema, {});
  const source = toBinary(
    OpSchema,
    create(OpSchema, { op: { case: 'source', value: { identifier: `${PREFIX}${id}` } } }),
  );
  // the last one stands for the result
  const result = toBinary(OpSchema, create(OpSchema, { inputs: [{ digest: digestOf(source), index: 0n }] }));
  // a client takes one without metadata for none
  return create(DefinitionSchema, { def: [source, result], metadata: { [digestOf(source)]: {} } });
}

/** The image's id, or `docker-image://…`; undefined for no files at all. Kind NotImplemented for any other operation. */
export function sourceOf(name: string, { def }: Definition): string | undefined {
  if (def.length === 0) return undefined;
  const [source, , more] = def.map((bytes) => fromBinary(OpSchema, bytes));
  const identifier = source?.op.case === 'source' ? source.op.value.identifier : '';
  if (more === undefined && identifier.startsWith(PREFIX)) return identifier.slice(PREFIX.length);
  if (more === undefined && identifier.startsWith('docker-image://')) return identifier;
  throw new CaissonError(
    'NotImplemented',
    `the build's input ${name} is a graph of operations that caisson does not carry out`,
  );
}
