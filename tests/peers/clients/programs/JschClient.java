// An inbox over SFTP with JSch: JschClient HOST PORT USER list|pull|resume|rename|remove [NAME…].
import com.jcraft.jsch.ChannelSftp;
import com.jcraft.jsch.JSch;
import com.jcraft.jsch.Session;

public class JschClient {
    public static void main(String[] args) throws Exception {
        JSch jsch = new JSch();
        jsch.addIdentity("id_rsa");
        jsch.setKnownHosts("known_hosts");
        Session session = jsch.getSession(args[2], args[0], Integer.parseInt(args[1]));
        session.setConfig("StrictHostKeyChecking", "yes");
        session.setConfig("PreferredAuthentications", "publickey");
        session.connect(20_000);
        try {
            ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
            sftp.connect(20_000);
            sftp.cd("/inbox");
            work(sftp, args);
        } finally {
            session.disconnect();
        }
    }

    private static void work(ChannelSftp sftp, String[] args) throws Exception {
        switch (args[3]) {
            case "list":
                for (Object entry : sftp.ls(".")) {
                    String name = ((ChannelSftp.LsEntry) entry).getFilename();
                    if (!name.startsWith(".")) System.out.println(name);
                }
                break;
            case "pull":
                for (int i = 4; i < args.length; i++) sftp.get(args[i], "here/" + args[i]);
                break;
            case "resume":
                sftp.get(args[4], "here/" + args[4], null, ChannelSftp.RESUME);
                break;
            case "rename":
                sftp.rename(args[4], args[5]);
                break;
            case "remove":
                for (int i = 4; i < args.length; i++) sftp.rm(args[i]);
                break;
            default:
                throw new IllegalArgumentException(args[3]);
        }
    }
}
