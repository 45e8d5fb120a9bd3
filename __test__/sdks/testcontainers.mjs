// Containers of a test suite: waits for ports, logs and health; networks; files copied in.
import { GenericContainer, Network, Wait } from 'testcontainers';

const image = process.env.IMAGE;
const network = await new Network().start();
const server = await new GenericContainer(image)
  .withCommand(['sh', '-c', 'httpd -p 80 -h /www; echo ready; exec sleep 1000'])
  .withExposedPorts(80)
  .withNetwork(network)
  .withNetworkAliases('server')
  .withCopyContentToContainer([{ content: 'hello', target: '/www/index.html' }])
  .withWaitStrategy(Wait.forLogMessage('ready'))
  .start();
const client = await new GenericContainer(image).withCommand(['sleep', '1000']).withNetwork(network).start();
const inside = await client.exec(['wget', '-qO-', 'http://server/']);
const outside = await fetch(`http://${server.getHost()}:${server.getMappedPort(80)}/`).then((answer) => answer.text());
const healthy = await new GenericContainer(image)
  .withCommand(['sleep', '1000'])
  .withHealthCheck({ test: ['CMD-SHELL', 'true'], interval: 100, timeout: 1000, retries: 1 })
  .withWaitStrategy(Wait.forHealthCheck())
  .start();
await Promise.all([server.stop(), client.stop(), healthy.stop()]);
await network.stop();
console.log(JSON.stringify({ inside: [inside.exitCode, inside.output], outside }));
