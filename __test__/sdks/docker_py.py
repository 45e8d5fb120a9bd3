"""What users of docker-py do: prints what they see, as one line of JSON."""
import io, json, os, tarfile
import docker

client = docker.DockerClient(base_url='unix://' + os.environ['SOCKET'])
image = os.environ['IMAGE']

ran = client.containers.run(image, ['echo', 'out'], remove=True)
try:
    client.containers.run(image, ['sh', '-c', 'echo bad >&2; exit 3'], remove=True)
    failed = None
except docker.errors.ContainerError as error:
    failed = [error.exit_status, error.stderr.decode()]
container = client.containers.run(image, ['sleep', '1000'], detach=True, labels={'sdk': 'docker-py'}, mem_limit='64m', network_mode='none')
code, output = container.exec_run(['sh', '-c', 'echo in; echo err >&2; exit 4'], demux=True)
archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode='w') as tar:
    info = tarfile.TarInfo('put')
    info.size = 4
    tar.addfile(info, io.BytesIO(b'data'))
container.put_archive('/tmp', archive.getvalue())
bits, stat = container.get_archive('/tmp/put')
got = tarfile.open(fileobj=io.BytesIO(b''.join(bits))).extractfile('put').read().decode()
container.reload()
limit = container.attrs['HostConfig']['Memory']
listed = len(client.containers.list(filters={'label': 'sdk=docker-py'}))
stats = container.stats(stream=False)
volume = client.volumes.create('sdk-volume', labels={'a': 'b'})
network = client.networks.create('sdk-network', driver='bridge')
names = [network.name in [n.name for n in client.networks.list()], volume.name in [v.name for v in client.volumes.list()]]
network.remove()
volume.remove()
container.stop(timeout=0)
container.remove()
try:
    client.images.get('nope:nope')
    missing = None
except docker.errors.ImageNotFound as error:
    missing = error.explanation
print(json.dumps({
    'run': ran.decode(), 'failed': failed, 'exec': [code, output[0].decode(), output[1].decode()], 'archive': got, 'limit': limit,
    'listed': listed, 'stats': 'memory_stats' in stats, 'names': names, 'missing': missing, 'version': client.version()['ApiVersion'],
}))
