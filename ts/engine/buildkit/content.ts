/** What build records refer to, by its digest: logs, provenance, errors (containerd's content service, to be read alone). */
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { isKind } from '../../errdefs.ts';
import type { History } from './history.ts';
import { type Content, ReadContentResponseSchema } from './proto/content_pb.ts';

const CHUNK_BYTES = 1 << 20;

export function contentOf(history: History): Partial<ServiceImpl<typeof Content>> {
  const found = (digest: string): Uint8Array => {
    try {
      return history.blob(digest);
    } catch (error) {
      throw isKind(error, 'NotFound') ? new ConnectError(error.message, Code.NotFound) : error;
    }
  };
  return {
    info: ({ digest }) => ({ info: { digest, size: BigInt(found(digest).length) } }),
    async *read({ digest, offset, size }) {
      const data = found(digest);
      const end = size > 0n ? Math.min(Number(offset + size), data.length) : data.length;
      for (let at = Number(offset); at < end; at += CHUNK_BYTES)
        yield create(ReadContentResponseSchema, {
          offset: BigInt(at),
          data: data.subarray(at, Math.min(at + CHUNK_BYTES, end)),
        });
    },
  };
}
