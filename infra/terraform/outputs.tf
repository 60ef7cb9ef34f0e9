output "publisher_policy" {
  description = "For the role or user that publishes and promotes."
  value       = aws_iam_policy.publisher.arn
}

output "reader_policy" {
  description = "For the role or user that serves."
  value       = aws_iam_policy.reader.arn
}
