/** push-busybox.ts REGISTRY-URL NAME TAG: makes the quick start's image (busybox httpd with one page) and pushes it. */
import { buildImage, busyboxTar, pushImage } from '../__test__/helpers/image.ts';

const [registry, name, tag] = process.argv.slice(2);
if (!registry || !name || !tag) {
  console.error('usage: push-busybox.ts REGISTRY-URL NAME TAG');
  process.exit(2);
}
const tar = await busyboxTar({ 'var/www/index.html': '<h1>Hello from a container that caisson runs</h1>\n' });
const image = buildImage([tar], {
  Cmd: ['sh', '-c', 'echo "serving /var/www on port 80"; exec httpd -f -v -h /var/www'],
  ExposedPorts: { '80/tcp': {} },
});
await pushImage(registry, name, tag, image);
console.log(`pushed ${name}:${tag} ${image.manifestDigest}`);
