<?php
// Managed by socle.
define( 'DB_NAME', {{ db }} );
define( 'DB_USER', {{ user }} );
// The database server knows the system user at the other end of the socket: there is no password.
define( 'DB_PASSWORD', '' );
define( 'DB_HOST', 'localhost:/run/mysqld/mysqld.sock' );
define( 'DB_CHARSET', 'utf8mb4' );
define( 'DB_COLLATE', '' );

define( 'AUTH_KEY', {{ secret.auth_key }} );
define( 'SECURE_AUTH_KEY', {{ secret.secure_auth_key }} );
define( 'LOGGED_IN_KEY', {{ secret.logged_in_key }} );
define( 'NONCE_KEY', {{ secret.nonce_key }} );
define( 'AUTH_SALT', {{ secret.auth_salt }} );
define( 'SECURE_AUTH_SALT', {{ secret.secure_auth_salt }} );
define( 'LOGGED_IN_SALT', {{ secret.logged_in_salt }} );
define( 'NONCE_SALT', {{ secret.nonce_salt }} );

define( 'WP_HOME', ( empty( $_SERVER['HTTPS'] ) ? {{ scheme ~ "://" }} : 'https://' ) . {{ domain }} );
define( 'WP_SITEURL', WP_HOME );
define( 'WP_CONTENT_DIR', {{ data ~ "/wp-content" }} );

// Versions are changed by socle, visits do not run planned work (a timer does), and files are written
// without FTP.
define( 'WP_AUTO_UPDATE_CORE', false );
define( 'DISABLE_WP_CRON', true );
define( 'FS_METHOD', 'direct' );
define( 'WP_DEBUG', false );

$table_prefix = 'wp_';

if ( ! defined( 'ABSPATH' ) ) {
	define( 'ABSPATH', {{ current ~ "/" }} );
}
require_once ABSPATH . 'wp-settings.php';
