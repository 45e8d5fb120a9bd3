/** `caisson daemon`: becomes the engine, in this process, so that a pid file holds the right pid. */

async function run(argv: string[]): Promise<number> {
  const { main } = await import('../../engine/daemon.ts');
  return main(argv);
}

export default { run };
