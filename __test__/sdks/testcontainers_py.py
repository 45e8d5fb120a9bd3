"""A container of a test suite: a port that is waited for, a command in it."""
import json, os, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs

script = 'mkdir /www; echo hello >/www/index.html; httpd -p 80 -h /www; echo ready; exec sleep 1000'
with DockerContainer(os.environ['IMAGE']).with_exposed_ports(80).with_command(['sh', '-c', script]) as container:
    wait_for_logs(container, 'ready', timeout=20)
    url = f'http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}/'
    page = urllib.request.urlopen(url, timeout=10).read().decode().strip()
    code, output = container.exec(['echo', 'in'])
print(json.dumps({'page': page, 'exec': [code, output.decode()]}))
