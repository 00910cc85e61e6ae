class Knbl < Formula
  desc "Measures what the network of a Kubernetes cluster costs"
  homepage "@RELEASE@"
  version "@VERSION@"
  license all_of: ["MIT", "GPL-2.0-only", "LGPL-2.1-or-later"]

  on_intel do
    url "@RELEASE@/knbl-@VERSION@-linux-amd64.tar.gz"
    sha256 "@SHA256_amd64@"
  end
  on_arm do
    url "@RELEASE@/knbl-@VERSION@-linux-arm64.tar.gz"
    sha256 "@SHA256_arm64@"
  end

  depends_on :linux

  # its libraries are beside it, with their names and dates as they were released
  skip_clean "libexec"

  def install
    libexec.install Dir["*"]
    bin.install_symlink libexec/"knbl"
  end

  test do
    assert_match "pod_to_svc", shell_output("#{bin}/knbl list")
  end
end
