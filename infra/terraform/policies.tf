# Who may do what: everybody by TLS alone and writing only with a condition; publisher and reader no more than they do.

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.releases.arn, "${aws_s3_bucket.releases.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Pointsman creates everything once (If-None-Match), and moves a channel by compare-and-swap (If-Match): the bucket refuses
  # a client that would write without.
  statement {
    sid       = "ConditionalWritesOnly"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${local.prefix}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }
    condition {
      test     = "Null"
      variable = "s3:if-match"
      values   = ["true"]
    }
    # A part of a multipart upload bears no condition: the request that completes it does.
    condition {
      test     = "Bool"
      variable = "s3:ObjectCreationOperation"
      values   = ["true"]
    }
  }
}

locals {
  prefix = "${aws_s3_bucket.releases.arn}/${var.prefix}"
}

data "aws_iam_policy_document" "publisher" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.releases.arn]
  }
  statement {
    sid       = "ReadAndWrite"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${local.prefix}/*"]
  }
  statement {
    sid       = "Collect" # a former version stays, for var.retention_days
    actions   = ["s3:DeleteObject"]
    resources = ["${local.prefix}/*"]
  }
  statement {
    sid       = "Encrypt"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.releases.arn]
  }
}

data "aws_iam_policy_document" "reader" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [aws_s3_bucket.releases.arn]
  }
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = ["${local.prefix}/*"]
  }
  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.releases.arn]
  }
}

resource "aws_iam_policy" "publisher" {
  name   = "${var.bucket}-publisher"
  policy = data.aws_iam_policy_document.publisher.json
}

resource "aws_iam_policy" "reader" {
  name   = "${var.bucket}-reader"
  policy = data.aws_iam_policy_document.reader.json
}
