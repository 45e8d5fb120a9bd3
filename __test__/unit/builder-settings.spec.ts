/** `builder` of daemon.json, and what follows from it for the caches of builds. */
import { describe, expect, it } from 'vitest';
import { BUILDER_DEFAULTS, parseBuilder, policiesOf } from '../../ts/engine/builder/gc.ts';

describe('builder of the config file', () => {
  it("is dockerd's own when there is none", () => {
    expect(parseBuilder(undefined)).toEqual(BUILDER_DEFAULTS);
    const [transient, old, all] = policiesOf(BUILDER_DEFAULTS, 100 * 2 ** 30);
    expect(transient).toMatchObject({ unusedForMs: 48 * 3_600_000, maxUsedSpace: 1.518e9 });
    expect(old).toMatchObject({ unusedForMs: 60 * 24 * 3_600_000, reservedSpace: 11e9 });
    expect(all).toMatchObject({ unusedForMs: 0, maxUsedSpace: 81e9, minFreeSpace: 21e9 });
  });

  it('is read whatever the case of its keys', () => {
    const settings = parseBuilder({
      GC: {
        Enabled: true,
        defaultKeepStorage: '20GB',
        policy: [{ keepStorage: '10GB', filter: ['unused-for=2h', 'type=regular'] }],
      },
      Entitlements: { 'network-host': false },
      history: { maxAge: '1h30m', MaxEntries: 7 },
    });
    expect(settings.history).toEqual({ maxAgeMs: 5_400_000, maxEntries: 7 });
    expect(settings).toMatchObject({ gc: true, networkHost: false, limits: { reservedSpace: 20 * 2 ** 30 } });
    const [policy] = policiesOf(settings, 1);
    expect(policy).toMatchObject({ filters: ['type==regular'], unusedForMs: 7_200_000, reservedSpace: 10 * 2 ** 30 });
  });

  it.each([
    [{ gc: { enabled: 'yes' } }, 'builder.gc.enabled of the config file is neither true nor false'],
    [{ gc: { colour: 1 } }, 'unknown key "colour"'],
    [{ gc: { defaultKeepStorage: 'much' } }, 'invalid value "much" for builder.gc.defaultkeepstorage'],
    [{ gc: { policy: [{ filter: ['until=soon'] }] } }, 'soon is no duration'],
    [{ history: { maxAge: 'long' } }, 'builder.history.maxage of the config file: long is no duration'],
    [{ history: { maxEntries: 'few' } }, 'builder.history.maxentries of the config file is no integer'],
    [{ entitlements: { 'security-insecure': true } }, 'security-insecure is not supported by caisson'],
    [{ entitlements: { device: true } }, 'device is not supported by caisson'],
    [[], 'builder of the config file is not an object'],
  ])('%j is refused', (given, message) => {
    expect(() => parseBuilder(given)).toThrow(message);
  });
});
