// An inbox over SFTP with ssh2-sftp-client: node_client.js HOST PORT USER list|pull|resume|rename|remove [NAME…].
const fs = require('fs');
const Client = require('ssh2-sftp-client');

const [host, port, username, verb, ...names] = process.argv.slice(2);
const known = fs.readFileSync('known_hosts', 'utf8').split('\n')[0].split(' ')[2];
const sftp = new Client();

async function main() {
  await sftp.connect({
    host, port: Number(port), username, privateKey: fs.readFileSync('id'),
    algorithms: { serverHostKey: ['ssh-ed25519'] },
    hostVerifier: (key) => key.toString('base64') === known,
  });
  if (verb === 'list') {
    for (const entry of await sftp.list('/inbox')) console.log(entry.name);
  } else if (verb === 'pull') {
    for (const name of names) await sftp.fastGet(`/inbox/${name}`, `here/${name}`);
  } else if (verb === 'resume') {
    const start = fs.statSync(`here/${names[0]}`).size;
    const local = fs.createWriteStream(`here/${names[0]}`, { flags: 'a' });
    await sftp.get(`/inbox/${names[0]}`, local, { readStreamOptions: { start } });
  } else if (verb === 'rename') {
    await sftp.rename(`/inbox/${names[0]}`, `/inbox/${names[1]}`);
  } else if (verb === 'remove') {
    for (const name of names) await sftp.delete(`/inbox/${name}`);
  }
}

main().catch((error) => { console.error(error.message); process.exitCode = 1; }).finally(() => sftp.end());
