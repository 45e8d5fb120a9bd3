/** This engine as the one worker of a BuildKit daemon. */
import { BUILDKIT_VERSION } from '../builder/dockerfile.ts';
import type { Engine } from '../engine.ts';

export function workerOf(engine: Engine): {
  ID: string;
  Labels: Record<string, string>;
  platforms: { OS: string; Architecture: string; Variant: string }[];
  BuildkitVersion: { package: string; version: string; revision: string };
} {
  const { config, graph } = engine;
  const bridge = graph.networks.all().find(({ name }) => name === 'bridge');
  const [gateway = ''] = config.hostGatewayIps.length > 0 ? config.hostGatewayIps : [bridge?.gateway ?? ''];
  const { os, architecture, variant = '' } = engine.images.hostPlatform;
  return {
    ID: 'caisson',
    Labels: {
      'org.mobyproject.buildkit.worker.executor': 'caisson',
      'org.mobyproject.buildkit.worker.moby.host-gateway-ip': gateway,
    },
    platforms: [{ OS: os, Architecture: architecture, Variant: variant }],
    BuildkitVersion: { package: 'github.com/moby/buildkit', version: BUILDKIT_VERSION, revision: '' },
  };
}
