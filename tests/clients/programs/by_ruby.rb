# The AWS SDK for Ruby, told nothing but what its environment says. A prefix a line in, JSON a line out.
require "aws-sdk-s3"
require "json"

$stdout.sync = true
client = nil
$stdin.each_line do |line|
  begin
    client ||= Aws::S3::Client.new(endpoint: ENV.fetch("AWS_ENDPOINT_URL"), force_path_style: true)
    found = client.list_objects_v2(bucket: ARGV[0], prefix: line.strip)
    answer = { keys: found.contents.map(&:key) }
  rescue StandardError => error
    answer = { error: "#{error.class}: #{error.message}" }
  end
  puts JSON.generate(answer)
end
